#![doc = include_str!("../azure.md")]
#![forbid(unsafe_code)]

// Where what lives:
// - `options`, `connection_string`: which container, by which right, and how its blobs are used
// - `backend`: Azure Blob Storage as the engine sees it
// - `names`: how names become names of blobs
// - `store`: the container, reached by the SDK; what comes before the first attempt
// - `http`, `shared_key`, `sas`, `identity`, `bearer`: how requests get there, and what shows that they may
// - `blob`: one lock's blob and the requests that concern it
// - `hold`: taking a lease, making the blob, giving both back
// - `flights`: attempts under way, which go on when nobody waits for them any longer
// - `tokens`: fencing tokens, a counter in the blob's metadata
// - `tries`: requests that are made again
// - `watch`: whether holds without an end are still there
// - `failure`: what errors mean
// - `inspect`, `doctor`: who holds what; is it set up safely
mod backend;
mod bearer;
mod blob;
mod connection_string;
mod doctor;
mod failure;
mod flights;
mod hold;
mod http;
mod identity;
mod inspect;
mod names;
mod options;
mod process;
mod sas;
mod shared_key;
mod store;
mod tokens;
mod tries;
mod watch;

pub use azure_core;
pub use azure_identity;
pub use azure_storage_blob;
pub use backend::AzureBackend;
pub use options::AzureBlob;
