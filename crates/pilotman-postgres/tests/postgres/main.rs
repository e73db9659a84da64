//! What the conformance suite can't ask: bad input, servers that break, connections of the user's, and the data fixtures of the
//! .NET library.

mod bad_input;
mod borrowed;
mod common;
mod dotnet;
mod dropped;
mod faults;
mod loss;
mod regressions;
mod sessions;
