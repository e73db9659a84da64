//! Windows: named kernel objects.

mod backend;
mod directory;
mod failure;
mod inspect;
mod keeper;
mod object;
mod physical;
mod security;
mod token;

pub use backend::OsBackend;
