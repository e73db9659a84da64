#![doc = include_str!("../zookeeper.md")]
#![forbid(unsafe_code)]

// Where what lives:
// - `options`, `host`, `acl`, `sasl`, `tls`: which ensemble, and how its locks are used
// - `names`, `path`: how names become paths
// - `layout`, `sequence`, `contest`: what nodes are called, in which order they stand, whose turn it is; no I/O
// - `link`, `connect`, `tasks`: the one session of a `Locks`, opened when it is needed; where the driver's tasks run
// - `session`, `pulse`, `keeper`, `bounds`: one session: how long it surely lasts, its heartbeat, the places that it keeps
// - `place`: one node of ours: made, found again, given back
// - `waiting`, `grant`: until it is our turn; what is handed out then
// - `renewal`, `observe`: whether our nodes are still there
// - `parents`: the nodes above ours; `owner`: who we are, for people
// - `inspect`, `doctor`: who holds what; is it set up safely
// - `failure`: errors
mod acl;
mod backend;
mod bounds;
mod connect;
mod contest;
mod doctor;
mod failure;
mod grant;
mod host;
mod inspect;
mod keeper;
mod layout;
mod link;
mod names;
mod observe;
mod options;
mod owner;
mod parents;
mod path;
mod place;
mod pulse;
mod renewal;
mod sasl;
mod sequence;
mod session;
mod tasks;
mod tls;
mod waiting;
mod words;

pub use acl::AccessControl;
pub use backend::ZooKeeperBackend;
pub use layout::Layout;
pub use options::ZooKeeper;
/// The driver. Its major version is this crate's.
pub use zookeeper_client;
