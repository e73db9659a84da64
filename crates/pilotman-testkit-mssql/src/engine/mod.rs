//! What the server knows and does, without its wire.

mod administration;
pub(crate) mod applocks;
mod calls;
mod columns;
pub(crate) mod error;
mod evaluate;
pub(crate) mod faults;
mod functions;
mod procedures;
mod properties;
pub(crate) mod run;
mod select;
mod sequences;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod settings;
pub(crate) mod state;
mod transactions;
mod views;
