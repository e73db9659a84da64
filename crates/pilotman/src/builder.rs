//! Typed set-up.

use std::sync::Arc;
use std::time::Duration;

use pilotman_core::backend::Backend;
use pilotman_core::{Error, LockOptions, Result};

use crate::Locks;
use crate::address::Address;

/// Sets up [`Locks`] on exactly one backend.
///
/// ```
/// use std::time::Duration;
///
/// # fn main() -> pilotman::Result<()> {
/// let locks = pilotman::Locks::builder().use_memory().hold_at_most(Duration::from_secs(60)).build()?;
/// # drop(locks);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct Builder {
    backends: Vec<Result<Arc<dyn Backend>>>,
    options: LockOptions,
    runtime: Option<tokio::runtime::Handle>,
}

impl Builder {
    /// A set-up without a backend.
    pub fn new() -> Self {
        Self::default()
    }

    /// Uses any backend, one from outside this project too.
    pub fn use_backend(mut self, backend: impl Backend) -> Self {
        self.backends.push(Ok(Arc::new(backend)));
        self
    }

    /// Uses the backend of a URL, whose options count for those that are not set here.
    pub fn use_url(mut self, url: &str) -> Self {
        let opened = Address::parse(url).and_then(|mut address| {
            let options = address.query.take_lock_options()?;
            let backend = crate::scheme::open(&mut address)?;
            address.query.finish()?;
            Ok((backend, options))
        });
        let backend = opened.map(|(backend, options)| {
            let LockOptions { lease, retry, hold_at_most, .. } = options;
            self.options.lease = self.options.lease.or(lease);
            self.options.retry = self.options.retry.or(retry);
            self.options.hold_at_most = self.options.hold_at_most.or(hold_at_most);
            backend
        });
        self.backends.push(backend);
        self
    }

    /// Uses the backend whose URL is in the environment variable `PILOTMAN_BACKEND`.
    pub fn use_env(mut self) -> Self {
        match std::env::var(crate::BACKEND_VARIABLE) {
            Ok(url) => self.use_url(&url),
            Err(_) => {
                self.backends.push(Err(Error::misconfigured(format!(
                    "the environment variable {} is not set",
                    crate::BACKEND_VARIABLE
                ))
                .with_advice("set it to a backend URL, such as file:///var/lib/myjob/locks")));
                self
            }
        }
    }

    /// Uses locks inside this process, which nobody else shares.
    #[cfg(feature = "memory")]
    pub fn use_memory(self) -> Self {
        self.use_backend(pilotman_core::memory::MemoryBackend::new())
    }

    /// Uses locks on files.
    #[cfg(feature = "file")]
    pub fn use_file(mut self, options: pilotman_file::FileOptions) -> Self {
        let backend = pilotman_file::FileBackend::new(options);
        self.backends.push(backend.map(|backend| Arc::new(backend) as _));
        self
    }

    /// Uses locks on blobs of Azure Storage.
    #[cfg(feature = "azure")]
    pub fn use_azure(mut self, azure: pilotman_azure::AzureBlob) -> Self {
        let backend = pilotman_azure::AzureBackend::new(azure);
        self.backends.push(backend.map(|backend| Arc::new(backend) as _));
        self
    }

    /// Uses locks on SQL Server or Azure SQL.
    #[cfg(feature = "mssql")]
    pub fn use_mssql(mut self, mssql: pilotman_mssql::MsSql) -> Self {
        let backend = pilotman_mssql::MsSqlBackend::new(mssql);
        self.backends.push(backend.map(|backend| Arc::new(backend) as _));
        self
    }

    /// Uses locks on MySQL or MariaDB.
    #[cfg(feature = "mysql")]
    pub fn use_mysql(mut self, mysql: pilotman_mysql::MySql) -> Self {
        let backend = pilotman_mysql::MySqlBackend::new(mysql);
        self.backends.push(backend.map(|backend| Arc::new(backend) as _));
        self
    }

    /// Uses locks on Oracle Database.
    #[cfg(feature = "oracle")]
    pub fn use_oracle(mut self, oracle: pilotman_oracle::Oracle) -> Self {
        let backend = pilotman_oracle::OracleBackend::new(oracle);
        self.backends.push(backend.map(|backend| Arc::new(backend) as _));
        self
    }

    /// Uses locks of this machine's operating system.
    #[cfg(feature = "os")]
    pub fn use_os(mut self, options: pilotman_os::OsOptions) -> Self {
        let backend = pilotman_os::OsBackend::new(options);
        self.backends.push(backend.map(|backend| Arc::new(backend) as _));
        self
    }

    /// Uses locks on PostgreSQL.
    #[cfg(feature = "postgres")]
    pub fn use_postgres(mut self, postgres: pilotman_postgres::Postgres) -> Self {
        let backend = pilotman_postgres::PostgresBackend::new(postgres);
        self.backends.push(backend.map(|backend| Arc::new(backend) as _));
        self
    }

    /// Uses locks on a Redis or Valkey. `use_redis(RedisNode::endpoint("127.0.0.1:6379")?)` is what the .NET documents
    /// write as `UseRedis("127.0.0.1:6379")`.
    #[cfg(feature = "redis")]
    pub fn use_redis(mut self, node: pilotman_redis::RedisNode) -> Self {
        let backend = pilotman_redis::RedisBackend::new(node);
        self.backends.push(backend.map(|backend| Arc::new(backend) as _));
        self
    }

    /// Uses locks on a quorum of independent Redis nodes.
    #[cfg(feature = "redis")]
    pub fn use_redlock(mut self, redlock: pilotman_redis::Redlock) -> Self {
        let backend = pilotman_redis::RedlockBackend::new(redlock);
        self.backends.push(backend.map(|backend| Arc::new(backend) as _));
        self
    }

    /// Uses locks on a ZooKeeper ensemble.
    #[cfg(feature = "zookeeper")]
    pub fn use_zookeeper(mut self, zookeeper: pilotman_zookeeper::ZooKeeper) -> Self {
        let backend = pilotman_zookeeper::ZooKeeperBackend::new(zookeeper);
        self.backends.push(backend.map(|backend| Arc::new(backend) as _));
        self
    }

    /// The lease of locks that name none. Default: the backend's.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.options.lease = Some(lease);
        self
    }

    /// The longest pause between attempts where waiting is polling, for locks that name none. Default: the backend's.
    pub fn retry(mut self, pause: Duration) -> Self {
        self.options.retry = Some(pause);
        self
    }

    /// How long a holder may keep a lock, for locks that say nothing else. Default: no limit.
    pub fn hold_at_most(mut self, limit: Duration) -> Self {
        self.options.hold_at_most = Some(limit);
        self
    }

    /// Runs connections and renewals on this runtime rather than on a thread of the library's own; see
    /// [`LocksBuilder::runtime`](pilotman_core::LocksBuilder::runtime).
    pub fn runtime(mut self, runtime: tokio::runtime::Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Makes the locks. Nothing is connected yet; [`Locks::check`](pilotman_core::Locks::check) does that now.
    ///
    /// # Errors
    ///
    /// `Misconfigured` without a backend, with more than one, or with options that the backend doesn't bear;
    /// `Unsupported` for a lease where holds don't expire.
    pub fn build(mut self) -> Result<Locks> {
        let (backend, others) = (self.backends.pop(), self.backends.len());
        let backend = match backend {
            None => {
                return Err(Error::misconfigured("no backend was chosen")
                    .with_advice("call exactly one of the builder's use_… methods, or Locks::connect with a URL"));
            }
            Some(_) if others > 0 => {
                return Err(Error::misconfigured(format!("{} backends were chosen", others + 1))
                    .with_advice("choose one; a program that needs two makes two Locks"));
            }
            Some(backend) => backend?,
        };
        let (kind, bounds) = (backend.kind(), backend.capabilities().lease);
        match (self.options.lease, bounds) {
            (Some(_), None) => {
                return Err(Error::unsupported("holds of this backend don't expire, so a lease can't be set")
                    .with_advice("leave the lease out, or limit the time with hold-at-most")
                    .with_backend(kind));
            }
            (Some(lease), Some(bounds)) if lease < bounds.min || lease > bounds.max => {
                return Err(Error::misconfigured(format!(
                    "a lease of {lease:?} is outside {:?} … {:?}",
                    bounds.min, bounds.max
                ))
                .with_backend(kind));
            }
            _ => {}
        }
        let mut locks = pilotman_core::Locks::builder_shared(backend).options(self.options);
        if let Some(runtime) = self.runtime {
            locks = locks.runtime(runtime);
        }
        Ok(locks.build().into())
    }
}
