//! Sequences: numbers that only go on.

use std::collections::BTreeMap;

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
