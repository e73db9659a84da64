//! How the URL of each backend becomes a backend.

use std::sync::Arc;

use pilotman_core::backend::Backend;
use pilotman_core::{Error, Result};

use crate::address::Address;

#[cfg(feature = "azure")]
pub(crate) mod azure;
#[cfg(feature = "file")]
pub(crate) mod file;
#[cfg(feature = "memory")]
pub(crate) mod memory;
#[cfg(feature = "mssql")]
pub(crate) mod mssql;
#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(feature = "oracle")]
pub(crate) mod oracle;
#[cfg(feature = "os")]
pub(crate) mod os;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(feature = "redis")]
pub(crate) mod redlock;
#[cfg(any(feature = "mssql", feature = "mysql", feature = "oracle", feature = "postgres"))]
mod sessions;
#[cfg(feature = "zookeeper")]
pub(crate) mod zookeeper;

/// Makes a backend of an address.
pub(crate) type Open = fn(&mut Address) -> Result<Arc<dyn Backend>>;

/// One backend technology and the schemes of its URLs.
pub(crate) struct Scheme {
    pub(crate) kind: &'static str,
    pub(crate) schemes: &'static [&'static str],
    pub(crate) example: &'static str,
    pub(crate) feature: &'static str,
    /// Whether an address may name several hosts, separated by commas.
    pub(crate) several_hosts: bool,
    /// Makes a backend of an address; `None` if this build doesn't have it.
    pub(crate) open: Option<Open>,
}

/// Every technology that the library knows, in this build or not.
pub(crate) const ALL: &[Scheme] = &[
    Scheme {
        kind: "azure",
        schemes: &["azblob"],
        example: "azblob://locks?account=contoso&auth=entra",
        feature: "azure",
        several_hosts: false,
        #[cfg(feature = "azure")]
        open: Some(azure::open),
        #[cfg(not(feature = "azure"))]
        open: None,
    },
    Scheme {
        kind: "file",
        schemes: &["file"],
        example: "file:///var/lib/myjob/locks",
        feature: "file",
        several_hosts: false,
        #[cfg(feature = "file")]
        open: Some(file::open),
        #[cfg(not(feature = "file"))]
        open: None,
    },
    Scheme {
        kind: "memory",
        schemes: &["memory"],
        example: "memory://",
        feature: "memory",
        several_hosts: false,
        #[cfg(feature = "memory")]
        open: Some(memory::open),
        #[cfg(not(feature = "memory"))]
        open: None,
    },
    Scheme {
        kind: "mssql",
        schemes: &["mssql", "sqlserver"],
        example: "mssql://app@127.0.0.1/shop",
        feature: "mssql",
        several_hosts: false,
        #[cfg(feature = "mssql")]
        open: Some(mssql::open),
        #[cfg(not(feature = "mssql"))]
        open: None,
    },
    Scheme {
        kind: "mysql",
        schemes: &["mysql", "mariadb"],
        example: "mysql://app@127.0.0.1/shop",
        feature: "mysql",
        several_hosts: true,
        #[cfg(feature = "mysql")]
        open: Some(mysql::open),
        #[cfg(not(feature = "mysql"))]
        open: None,
    },
    Scheme {
        kind: "oracle",
        schemes: &["oracle"],
        example: "oracle://app@127.0.0.1:1521/SHOP",
        feature: "oracle",
        several_hosts: true,
        #[cfg(feature = "oracle")]
        open: Some(oracle::open),
        #[cfg(not(feature = "oracle"))]
        open: None,
    },
    Scheme {
        kind: "os",
        schemes: &["os"],
        example: "os://",
        feature: "os",
        several_hosts: false,
        #[cfg(feature = "os")]
        open: Some(os::open),
        #[cfg(not(feature = "os"))]
        open: None,
    },
    Scheme {
        kind: "postgres",
        schemes: &["postgres", "postgresql"],
        example: "postgres://app@127.0.0.1/shop",
        feature: "postgres",
        several_hosts: true,
        #[cfg(feature = "postgres")]
        open: Some(postgres::open),
        #[cfg(not(feature = "postgres"))]
        open: None,
    },
    Scheme {
        kind: "redis",
        schemes: &[
            "redis",
            "rediss",
            "redis-sentinel",
            "rediss-sentinel",
            "redis-cluster",
            "rediss-cluster",
            "redis+unix",
        ],
        example: "redis://127.0.0.1:6379",
        feature: "redis",
        several_hosts: true,
        #[cfg(feature = "redis")]
        open: Some(redis::open),
        #[cfg(not(feature = "redis"))]
        open: None,
    },
    Scheme {
        kind: "redlock",
        schemes: &["redlock", "redlocks"],
        example: "redlock://10.0.0.1,10.0.0.2,10.0.0.3",
        feature: "redis",
        several_hosts: true,
        #[cfg(feature = "redis")]
        open: Some(redlock::open),
        #[cfg(not(feature = "redis"))]
        open: None,
    },
    Scheme {
        kind: "zookeeper",
        schemes: &["zookeeper", "zookeeper+tls"],
        example: "zookeeper://10.0.0.1,10.0.0.2,10.0.0.3/app",
        feature: "zookeeper",
        several_hosts: true,
        #[cfg(feature = "zookeeper")]
        open: Some(zookeeper::open),
        #[cfg(not(feature = "zookeeper"))]
        open: None,
    },
];

/// The schemes of this build, as they are written.
pub(crate) fn known_schemes() -> Vec<String> {
    let built = ALL.iter().filter(|scheme| scheme.open.is_some());
    built.flat_map(|scheme| scheme.schemes).map(|scheme| format!("{scheme}://")).collect()
}

/// Finds who opens URLs of this scheme, and what they look like.
pub(crate) fn find(scheme: &str) -> Result<(&'static Scheme, Open)> {
    let known = known_schemes().join(", ");
    match ALL.iter().find(|candidate| candidate.schemes.contains(&scheme)) {
        Some(found @ Scheme { open: Some(open), .. }) => Ok((found, *open)),
        Some(Scheme { feature, .. }) => {
            Err(Error::misconfigured(format!("this build has no backend for {scheme}:// URLs; it has {known}"))
                .with_advice(format!("enable the feature '{feature}'")))
        }
        None => {
            // What stands before :// may be a password that was pasted in the wrong place.
            let plain = scheme.len() <= 20 && scheme.bytes().all(|b| b.is_ascii_lowercase() || b"+-.".contains(&b));
            let scheme = if plain { format!("the scheme {scheme}://") } else { "this scheme".into() };
            Err(Error::misconfigured(format!("no backend knows {scheme}; this build knows {known}")))
        }
    }
}

/// Opens the backend of an address.
pub(crate) fn open(address: &mut Address) -> Result<Arc<dyn Backend>> {
    let (_, open) = find(address.url.scheme())?;
    open(address)
}
