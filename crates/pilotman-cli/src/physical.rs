//! `pilotman name`: what stands for a lock at the backend.

use crate::args::Physical;
use crate::backend::Backend;
use crate::exit::{Ending, Failure};
use crate::output::print;

pub(crate) fn name(args: &Physical, backend: Option<String>) -> Result<Ending, Failure> {
    let locks = Backend::choose_to_look(backend)?.connect()?;
    print(&format!("{}\n", locks.physical_name(&args.name, args.kind.primitive())?))?;
    Ok(Ending::Success)
}
