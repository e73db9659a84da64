//! What the user may do, and what the database says of itself.

/// What the user may do, and what the database is.
#[derive(Debug, Clone)]
pub(crate) struct Rights {
    pub(crate) dbms_lock: bool,
    pub(crate) views: bool,
    pub(crate) alter_system: bool,
    pub(crate) create_sequence: bool,
    pub(crate) create_session: bool,
    pub(crate) role: &'static str,
    pub(crate) failover: &'static str,
    pub(crate) character_set: &'static str,
    pub(crate) limits: [&'static str; 3],
}

impl Default for Rights {
    fn default() -> Self {
        Self {
            dbms_lock: true,
            views: true,
            alter_system: true,
            create_sequence: true,
            create_session: true,
            role: "PRIMARY",
            failover: "NONE",
            character_set: "AL32UTF8",
            limits: ["UNLIMITED"; 3],
        }
    }
}
