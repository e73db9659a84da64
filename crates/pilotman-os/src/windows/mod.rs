//! Windows: named kernel objects.

mod backend;
mod failure;
mod keeper;
mod object;
mod physical;
mod security;
mod token;

pub use backend::OsBackend;
