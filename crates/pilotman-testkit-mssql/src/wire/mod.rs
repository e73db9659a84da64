//! TDS 7.4 on the wire: packets, messages, tokens and types.

pub(crate) mod bytes;
pub(crate) mod login;
pub(crate) mod packet;
pub(crate) mod prelogin;
pub(crate) mod request;
pub(crate) mod tls;
pub(crate) mod tokens;
pub(crate) mod transport;
pub(crate) mod types;
