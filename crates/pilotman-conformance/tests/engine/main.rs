//! The engine's remote paths under simulated time: the memory backend behind [`Faulty`], a clock that moves when told
//! to, and a runtime that runs when told to. What happens is exact, so it is asserted exactly.

mod leases;
mod waiting;
mod world;
