//! Properties of the server and its databases, and permissions.

use super::run::Run;
use crate::wire::types::Value;

impl Run<'_> {
    pub(super) fn about_server(&self, name: &str, values: &[Value]) -> Option<Value> {
        let settings = self.server.settings();
        match (name, values) {
            ("DB_NAME", []) => Some(Value::Text(self.state.database.clone())),
            ("DB_NAME", [id]) => {
                let name = self.databases().into_iter().find(|(_, other)| *other == id.whole()).map(|(name, _)| name);
                Some(name.map_or(Value::Null, Value::Text))
            }
            ("DB_ID", []) => Some(self.database_id(&self.state.database)),
            ("DB_ID", [name]) => Some(self.database_id(&name.text())),
            ("OBJECT_ID", [name, ..]) => Some(self.object_id(&name.text())),
            ("SCHEMA_ID", _) => Some(Value::Int(1)),
            ("SERVERPROPERTY", [name]) => Some(match name.text().to_lowercase().as_str() {
                "engineedition" => Value::Int(settings.engine_edition),
                "edition" => Value::Text("Developer Edition (64-bit)".to_owned()),
                "productversion" => Value::Text("15.0.2000.5".to_owned()),
                "productmajorversion" => Value::Text("15".to_owned()),
                "productlevel" => Value::Text("RTM".to_owned()),
                "ishadrenabled" => Value::Int(settings.always_on.into()),
                "isclustered" | "isintegratedsecurityonly" => Value::Int(0),
                "servername" | "machinename" => Value::Text(crate::NAME.to_owned()),
                // As documented for a name that is no property.
                _ => Value::Null,
            }),
            ("DATABASEPROPERTYEX", [database, property]) => Some(self.database_property(&database.text(), property)),
            ("HAS_PERMS_BY_NAME", [object, _, permission, ..]) => Some(self.has_permission(object, &permission.text())),
            ("IS_SRVROLEMEMBER", [_, ..]) | ("IS_MEMBER", [_]) => {
                let permissions = settings.permissions;
                Some(Value::Int((permissions == super::settings::Permissions::default()).into()))
            }
            ("FN_HADR_IS_PRIMARY_REPLICA", [_]) => {
                Some(if settings.always_on { Value::Bit(!settings.read_only) } else { Value::Null })
            }
            ("CONNECTIONPROPERTY", [name]) => Some(match name.text().to_lowercase().as_str() {
                "net_transport" => Value::Text("TCP".to_owned()),
                "protocol_type" => Value::Text("TSQL".to_owned()),
                "auth_scheme" => Value::Text("SQL".to_owned()),
                "client_net_address" => Value::Text(self.session.client.ip().to_string()),
                _ => Value::Null,
            }),
            ("SESSIONPROPERTY", [_]) => Some(Value::Int(1)),
            _ => None,
        }
    }

    /// Names and numbers of the databases: the system's first.
    pub(super) fn databases(&self) -> Vec<(String, i64)> {
        let system = ["master", "tempdb", "model", "msdb"];
        let own = self.server.settings().databases;
        let own = own.into_iter().filter(|name| !system.contains(&name.as_str()));
        let all = system.into_iter().map(str::to_owned).chain(own);
        all.zip(1..).collect()
    }

    pub(super) fn database_id(&self, name: &str) -> Value {
        let found = self.databases().into_iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map_or(Value::Null, |(_, id)| Value::Int(id))
    }

    fn database_property(&self, database: &str, property: &Value) -> Value {
        if self.database_id(database) == Value::Null {
            return Value::Null;
        }
        let read_only = self.server.settings().read_only;
        match property.text().to_lowercase().as_str() {
            "updateability" => Value::Text(if read_only { "READ_ONLY" } else { "READ_WRITE" }.to_owned()),
            "status" => Value::Text("ONLINE".to_owned()),
            "collation" => Value::Text("SQL_Latin1_General_CP1_CI_AS".to_owned()),
            _ => Value::Null,
        }
    }

    fn object_id(&self, name: &str) -> Value {
        let name = name.replace(['[', ']'], "");
        let sequence = self.server.sequences().get(&self.state.database, &name).map(|sequence| sequence.object);
        let own = name.rsplit('.').next().unwrap_or_default().to_lowercase();
        match (sequence, own.as_str()) {
            (Some(object), _) => Value::Int(object),
            (None, "sp_getapplock") => Value::Int(-1_001),
            (None, "sp_releaseapplock") => Value::Int(-1_002),
            _ => Value::Null,
        }
    }

    /// 1, 0, or NULL for a permission that there isn't.
    fn has_permission(&self, object: &Value, permission: &str) -> Value {
        let permissions = self.server.settings().permissions;
        let held = match permission.to_uppercase().as_str() {
            "EXECUTE" if object.text().to_lowercase().contains("applock") => permissions.execute,
            "VIEW SERVER STATE" | "VIEW SERVER PERFORMANCE STATE" => permissions.view_server_state,
            "ALTER ANY CONNECTION" => permissions.kill,
            "CREATE SEQUENCE" => permissions.create_sequence,
            "UPDATE" => permissions.use_sequence,
            "CONNECT" | "SELECT" => true,
            _ => return Value::Null,
        };
        Value::Int(held.into())
    }
}
