//! The system views that are served.

use std::time::Instant;

use super::error::{Stop, no_object};
use super::functions::moment;
use super::procedures::PRINCIPALS;
use super::run::Run;
use super::session::{Activity, Session};
use crate::locks::{Held, Key};
use crate::wire::bytes::HALF;
use crate::wire::tokens::SqlError;
use crate::wire::types::{Type, Value};

#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Type,
}

#[derive(Debug)]
pub(super) struct View {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Vec<Value>>,
}

fn column(name: &'static str, kind: Type) -> Column {
    Column { name, kind }
}

const TEXT: Type = Type::Text(Some(256));

fn text(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

fn number(number: impl Into<i64>) -> Value {
    Value::Int(number.into())
}

impl Run<'_> {
    pub(super) fn view(&mut self, name: &str) -> Result<View, Stop> {
        let own = name.rsplit('.').next().unwrap_or(name).to_lowercase();
        match own.as_str() {
            "dm_tran_locks" => Ok(self.tran_locks()?),
            "dm_exec_sessions" => Ok(self.exec_sessions()),
            "dm_exec_connections" => Ok(self.exec_connections()?),
            "dm_exec_requests" => Ok(self.exec_requests()),
            "sequences" => Ok(self.sequences_view()),
            "databases" => Ok(self.databases_view()),
            _ => {
                self.server.log_unknown(format!("FROM {name}"));
                Err(no_object(name).into())
            }
        }
    }

    fn need_server_state(&self) -> Result<(), SqlError> {
        if self.server.settings().permissions.view_server_state {
            return Ok(());
        }
        let message = "VIEW SERVER STATE permission was denied on object 'server', database 'master'.";
        Err(SqlError::new(300, message).class(14))
    }

    /// Everybody's sessions, or without the permission the own one.
    fn visible_sessions(&self) -> Vec<std::sync::Arc<Session>> {
        let all = self.server.settings().permissions.view_server_state;
        let own = self.session.id;
        self.server.sessions().into_iter().filter(|session| all || session.id == own).collect()
    }

    fn tran_locks(&self) -> Result<View, SqlError> {
        self.need_server_state()?;
        let columns = vec![
            column("resource_type", TEXT),
            column("resource_subtype", TEXT),
            column("resource_database_id", Type::Int),
            column("resource_description", TEXT),
            column("resource_associated_entity_id", Type::BigInt),
            column("request_mode", TEXT),
            column("request_type", TEXT),
            column("request_status", TEXT),
            column("request_reference_count", Type::SmallInt),
            column("request_session_id", Type::Int),
            column("request_owner_type", TEXT),
            column("request_owner_id", Type::BigInt),
        ];
        let mut rows = Vec::new();
        // Every session holds its database, so that nobody drops it.
        for session in self.server.sessions() {
            let database = self.database_id(&session.activity().database);
            rows.push(vec![
                text("DATABASE"),
                text(""),
                database,
                text(""),
                number(0),
                text("S"),
                text("LOCK"),
                text("GRANT"),
                number(1),
                number(session.id),
                text("SHARED_TRANSACTION_WORKSPACE"),
                number(0),
            ]);
        }
        let (held, counts) = {
            let table = self.server.locks();
            let held = table.rows();
            let counts: Vec<u32> = held.iter().map(|row| table.count(row.owner, &row.key)).collect();
            (held, counts)
        };
        for (row, count) in held.iter().zip(counts) {
            rows.push(self.lock_row(row, count));
        }
        Ok(View { columns, rows })
    }

    fn lock_row(&self, row: &Held, count: u32) -> Vec<Value> {
        let status = match (row.granted, row.converts) {
            (true, _) => "GRANT",
            (false, true) => "CONVERT",
            (false, false) => "WAIT",
        };
        let (owner_type, owner) = match row.owner.transaction {
            None => ("SESSION", 0),
            Some(transaction) => ("TRANSACTION", i64::try_from(transaction).unwrap_or(0)),
        };
        vec![
            text("APPLICATION"),
            text(""),
            self.database_id(&row.key.database),
            text(description(&row.key)),
            number(0),
            text(row.mode.short_name()),
            text("LOCK"),
            text(status),
            number(if row.granted { count } else { 0 }),
            number(row.owner.session),
            text(owner_type),
            number(owner),
        ]
    }

    fn exec_sessions(&self) -> View {
        let columns = vec![
            column("session_id", Type::SmallInt),
            column("login_time", Type::DateTime),
            column("host_name", TEXT),
            column("program_name", TEXT),
            column("host_process_id", Type::Int),
            column("client_interface_name", TEXT),
            column("login_name", TEXT),
            column("original_login_name", TEXT),
            column("status", TEXT),
            column("database_id", Type::SmallInt),
            column("open_transaction_count", Type::Int),
            column("lock_timeout", Type::Int),
            column("last_request_start_time", Type::DateTime),
            column("last_request_end_time", Type::DateTime),
            column("is_user_process", Type::Bit),
        ];
        let row = |session: &Session, activity: &Activity| {
            let time = |time| {
                let (days, ticks) = moment(time);
                Value::DateTime(days, ticks)
            };
            vec![
                number(session.id),
                time(session.logged_in),
                text(&session.host),
                text(&session.program),
                number(session.process),
                text("TDS"),
                text(&session.login),
                text(&session.login),
                text(if activity.running { "running" } else { "sleeping" }),
                self.database_id(&activity.database),
                number(activity.transactions),
                number(activity.lock_timeout),
                time(activity.began),
                time(activity.ended),
                Value::Bit(true),
            ]
        };
        let rows = self.visible_sessions().iter().map(|session| row(session, &session.activity())).collect();
        View { columns, rows }
    }

    fn exec_connections(&self) -> Result<View, SqlError> {
        self.need_server_state()?;
        let columns = vec![
            column("session_id", Type::Int),
            column("net_transport", TEXT),
            column("encrypt_option", TEXT),
            column("auth_scheme", TEXT),
            column("client_net_address", TEXT),
            column("client_tcp_port", Type::Int),
        ];
        let row = |session: &Session| {
            vec![
                number(session.id),
                text("TCP"),
                text(if session.encrypted { "TRUE" } else { "FALSE" }),
                text("SQL"),
                text(session.client.ip().to_string()),
                number(session.client.port()),
            ]
        };
        let rows = self.server.sessions().iter().map(|session| row(session)).collect();
        Ok(View { columns, rows })
    }

    fn exec_requests(&self) -> View {
        let columns = vec![
            column("session_id", Type::SmallInt),
            column("status", TEXT),
            column("command", TEXT),
            column("database_id", Type::SmallInt),
            column("blocking_session_id", Type::SmallInt),
            column("wait_type", TEXT),
            column("wait_time", Type::Int),
        ];
        let blocked = self.server.locks().blocked();
        let mut rows = Vec::new();
        for session in self.visible_sessions() {
            let activity = session.activity();
            if !activity.running {
                continue;
            }
            let blocker = blocked.get(&session.id).map(|blockers| blockers.first().copied().unwrap_or(0));
            let waited = Instant::now().saturating_duration_since(activity.idle_since).as_millis();
            rows.push(vec![
                number(session.id),
                text(if blocker.is_some() { "suspended" } else { "running" }),
                text("EXECUTE"),
                self.database_id(&activity.database),
                number(blocker.unwrap_or(0)),
                blocker.map_or(Value::Null, |_| text("LCK_M_X")),
                number(i64::try_from(waited).unwrap_or(0)),
            ]);
        }
        View { columns, rows }
    }

    fn sequences_view(&self) -> View {
        let columns = vec![
            column("name", TEXT),
            column("object_id", Type::Int),
            column("schema_id", Type::Int),
            column("type", TEXT),
            column("start_value", Type::BigInt),
            column("increment", Type::BigInt),
            column("minimum_value", Type::BigInt),
            column("maximum_value", Type::BigInt),
            column("is_cycling", Type::Bit),
            column("is_cached", Type::Bit),
            column("current_value", Type::BigInt),
        ];
        let own = self.server.sequences().of(&self.state.database);
        let rows = own.into_iter().map(|(_, sequence)| {
            vec![
                text(sequence.name),
                number(sequence.object),
                number(1),
                text("SO"),
                number(sequence.start),
                number(sequence.increment),
                number(sequence.lowest),
                number(i64::MAX),
                Value::Bit(sequence.cycles),
                Value::Bit(true),
                number(sequence.last.unwrap_or(sequence.start)),
            ]
        });
        let rows = rows.collect();
        View { columns, rows }
    }

    fn databases_view(&self) -> View {
        let columns = vec![
            column("name", TEXT),
            column("database_id", Type::Int),
            column("state_desc", TEXT),
            column("is_read_only", Type::Bit),
        ];
        let read_only = self.server.settings().read_only;
        let rows = self
            .databases()
            .into_iter()
            .map(|(name, id)| vec![text(name), number(id), text("ONLINE"), Value::Bit(read_only && id > 4)]);
        let rows = rows.collect();
        View { columns, rows }
    }
}

/// The principal, the first 32 characters of the resource, and a hash of all of it.
fn description(key: &Key) -> String {
    let principal = PRINCIPALS.iter().find(|(name, _)| *name == key.principal).map_or(0, |(_, id)| *id);
    // As documented, so many characters, which are UTF-16 units: a pair may be cut in two.
    let units: Vec<u16> = key.resource.encode_utf16().take(32).collect();
    let start: String = char::decode_utf16(units).map(|sign| sign.unwrap_or(HALF)).collect();
    let hash =
        key.resource.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{principal}:[{start}]:({hash:08x})")
}
