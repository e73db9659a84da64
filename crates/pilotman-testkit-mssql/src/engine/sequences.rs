//! Sequences: numbers that only go on.

use std::collections::BTreeMap;

use super::error::{denied, no_object, read_only};
use super::run::Run;
use crate::sql::ast::NewSequence;
use crate::wire::tokens::SqlError;
use crate::wire::types::Type;

#[derive(Debug, Clone)]
pub(crate) struct Sequence {
    pub(crate) object: i64,
    pub(crate) name: String,
    pub(crate) kind: Type,
    pub(crate) start: i64,
    pub(crate) increment: i64,
    pub(crate) lowest: i64,
    pub(crate) cycles: bool,
    /// The number that was given last.
    pub(crate) last: Option<i64>,
}

impl Sequence {
    /// Gives the next number. `None` when there is none any more.
    pub(crate) fn next(&mut self) -> Option<i64> {
        let next = match self.last {
            None => self.start,
            Some(last) => last.checked_add(self.increment)?,
        };
        self.last = Some(next);
        Some(next)
    }
}

/// All sequences, by database, schema and name.
#[derive(Debug, Default)]
pub(crate) struct Sequences {
    by_name: BTreeMap<(String, String, String), Sequence>,
}

type Place = (String, String, String);

/// Where a name with owners before it points to.
fn place(database: &str, name: &str) -> Place {
    let mut parts: Vec<&str> = name.split('.').collect();
    let own = parts.pop().unwrap_or_default().to_lowercase();
    let schema = parts.pop().filter(|part| !part.is_empty()).unwrap_or("dbo").to_lowercase();
    let database = parts.pop().filter(|part| !part.is_empty()).unwrap_or(database).to_lowercase();
    (database, schema, own)
}

impl Sequences {
    pub(crate) fn get(&mut self, database: &str, name: &str) -> Option<&mut Sequence> {
        self.by_name.get_mut(&place(database, name))
    }

    /// `false` if there is one of that name.
    pub(crate) fn create(&mut self, database: &str, name: &str, sequence: Sequence) -> bool {
        let place = place(database, name);
        let free = !self.by_name.contains_key(&place);
        if free {
            self.by_name.insert(place, sequence);
        }
        free
    }

    /// `false` if there is none of that name.
    pub(crate) fn remove(&mut self, database: &str, name: &str) -> bool {
        self.by_name.remove(&place(database, name)).is_some()
    }

    pub(crate) fn of(&self, database: &str) -> Vec<(String, Sequence)> {
        let database = database.to_lowercase();
        let own = self.by_name.iter().filter(|((other, ..), _)| *other == database);
        own.map(|((_, schema, _), sequence)| (schema.clone(), sequence.clone())).collect()
    }
}

impl Run<'_> {
    pub(super) fn create_sequence(&mut self, new: &NewSequence) -> Result<(), SqlError> {
        let name = new.name.as_str();
        let settings = self.server.settings();
        let database = self.state.database.clone();
        if !settings.permissions.create_sequence {
            let message = format!("CREATE SEQUENCE permission denied in database '{database}'.");
            return Err(SqlError::new(262, message).class(14));
        }
        if settings.read_only {
            return Err(read_only(&database));
        }
        let object = i64::try_from(self.server.number()).unwrap_or(i64::MAX) + 1_000_000;
        let own = name.rsplit('.').next().unwrap_or(name).to_owned();
        let NewSequence { kind, start, increment, lowest, cycles, .. } = *new;
        let sequence = Sequence { object, name: own, kind, start, increment, lowest, cycles, last: None };
        if self.server.sequences().create(&database, name, sequence) {
            return Ok(());
        }
        let message = format!("There is already an object named '{name}' in the database.");
        Err(SqlError::new(2714, message).state(3))
    }

    pub(super) fn drop_sequence(&mut self, name: &str, if_exists: bool) -> Result<(), SqlError> {
        let database = self.state.database.clone();
        if self.server.settings().read_only {
            return Err(read_only(&database));
        }
        if self.server.sequences().remove(&database, name) || if_exists {
            return Ok(());
        }
        let message = format!(
            "Cannot drop the sequence object '{name}', because it does not exist or you do not have permission."
        );
        Err(SqlError::new(3701, message).class(11))
    }

    /// The next number of a sequence.
    pub(super) fn next_value(&mut self, name: &str) -> Result<i64, SqlError> {
        let settings = self.server.settings();
        let database = self.state.database.clone();
        let mut sequences = self.server.sequences();
        let Some(sequence) = sequences.get(&database, name) else {
            return Err(no_object(name));
        };
        if !settings.permissions.use_sequence {
            return Err(denied("UPDATE", name));
        }
        if settings.read_only {
            return Err(read_only(&database));
        }
        sequence.next().ok_or_else(|| {
            let message = format!("The sequence object '{name}' has reached its minimum or maximum value.");
            SqlError::new(11728, message)
        })
    }
}
