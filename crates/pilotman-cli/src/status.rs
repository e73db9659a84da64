//! `pilotman status`: who holds one lock.

use crate::args::Status;
use crate::backend::Backend;
use crate::exit::{Ending, Failure};
use crate::output::{print, print_json};
use crate::table;

/// Succeeds whether the lock is held or not; `--json` has a field for that.
pub(crate) fn status(args: &Status, backend: Option<String>) -> Result<Ending, Failure> {
    let locks = Backend::choose_to_look(backend)?.connect()?;
    let mut inspection = locks.inspect(&args.name, args.kind.primitive())?;
    // Whoever asks by name knows it, whether the backend has stored it or not.
    inspection.name.get_or_insert_with(|| args.name.clone());
    if args.json {
        print_json(&table::json(&inspection))?;
    } else {
        print(&table::of_locks(std::slice::from_ref(&inspection)))?;
        print(&format!("physical name: {}\n", inspection.physical))?;
    }
    Ok(Ending::Success)
}
