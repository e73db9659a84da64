#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod case;
mod cases;
#[cfg(test)]
mod catches;
mod context;
#[cfg(test)]
mod dotnet;
pub mod faults;
mod runner;
mod surface;
mod taker;
mod under_test;

pub use runner::main;
pub use under_test::{LeaseCases, LoseHold, UnderTest};
