//! What the SQL Server backend does when servers, networks and other sessions misbehave, against the stand-in.

mod bad_input;
mod borrowed;
mod cancel;
mod common;
mod dotnet;
mod loss;
mod rights;
mod tls;
mod upgrade;
