//! What a server is set to before it starts.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use crate::engine::settings::{Settings, User};
use crate::stand_in::StandIn;
use crate::{Encryption, Permissions};

/// The login that there is by default.
pub(crate) const USER: &str = "pilotman";
/// Its password. Signs that a URL or a connection string has to quote belong into a test of their own.
pub(crate) const PASSWORD: &str = "Pilotman-1";
/// The database that there is by default.
pub(crate) const DATABASE: &str = "locks";

/// Sets up a [`StandIn`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    settings: Settings,
}

impl Default for Builder {
    fn default() -> Self {
        let user = User { password: PASSWORD.to_owned(), databases: None };
        Self {
            settings: Settings {
                users: BTreeMap::from([(USER.to_owned(), user)]),
                tokens: BTreeMap::new(),
                databases: vec![DATABASE.to_owned(), "master".to_owned()],
                encryption: Encryption::Off,
                permissions: Permissions::default(),
                read_only: false,
                login_failure: None,
                route: None,
                largest_packet: 32_767,
                deadlock_interval: Duration::from_millis(500),
                always_on: false,
                engine_edition: 3,
                idle_limit: None,
            },
        }
    }
}

impl Builder {
    /// One more login, which may use the databases that are named. None: all.
    pub fn user(mut self, name: &str, password: &str, databases: &[&str]) -> Self {
        let databases = if databases.is_empty() { None } else { Some(databases.iter().map(|&it| it.into()).collect()) };
        self.settings.users.insert(name.to_owned(), User { password: password.to_owned(), databases });
        self
    }

    /// One more access token (Entra), and the name that it stands for.
    pub fn token(mut self, token: &str, name: &str) -> Self {
        self.settings.tokens.insert(token.to_owned(), name.to_owned());
        self
    }

    /// One more database.
    pub fn database(mut self, name: &str) -> Self {
        self.settings.databases.push(name.to_owned());
        self
    }

    /// What the server says about encryption. [`Encryption::Off`] by default: as the client likes.
    pub fn encryption(mut self, encryption: Encryption) -> Self {
        self.settings.encryption = encryption;
        self
    }

    /// What logins may do. Everything by default.
    pub fn permissions(mut self, permissions: Permissions) -> Self {
        self.settings.permissions = permissions;
        self
    }

    /// The largest packet that the server agrees to, from 512 to 32767 bytes, which is the default. A client asks for
    /// 4096 as a rule.
    pub fn largest_packet(mut self, bytes: usize) -> Self {
        self.settings.largest_packet = bytes.clamp(512, 32_767);
        self
    }

    /// How often deadlocks are looked for. Every half second by default. The real server does it every five seconds,
    /// and more often after it has found one.
    pub fn deadlock_interval(mut self, interval: Duration) -> Self {
        self.settings.deadlock_interval = interval.max(Duration::from_millis(1));
        self
    }

    /// The server says that it is part of an availability group. No by default.
    pub fn always_on(mut self, on: bool) -> Self {
        self.settings.always_on = on;
        self
    }

    /// What `SERVERPROPERTY('EngineEdition')` says: 3 is Enterprise, the default, and 5 Azure SQL Database.
    pub fn engine_edition(mut self, edition: i64) -> Self {
        self.settings.engine_edition = edition;
        self
    }

    /// Sessions that do nothing for so long are closed, as Azure SQL Database does. Never by default.
    pub fn idle_limit(mut self, limit: Duration) -> Self {
        self.settings.idle_limit = Some(limit);
        self
    }

    /// Starts the server on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When the port, its certificate or its threads can't be had.
    pub fn start(self) -> io::Result<StandIn> {
        StandIn::of(self.settings)
    }
}
