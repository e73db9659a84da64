//! Windows: named kernel objects.

mod backend;
mod cell;
mod directory;
mod failure;
mod inspect;
mod keeper;
mod object;
mod physical;
mod security;
mod thread;
mod token;

pub use backend::OsBackend;
