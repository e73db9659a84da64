//! `pilotman list`: the locks that a backend knows.

use crate::args::List;
use crate::backend::Backend;
use crate::exit::{Ending, Failure};
use crate::output::{print, print_json};
use crate::table;

pub(crate) fn list(args: &List, backend: Option<String>) -> Result<Ending, Failure> {
    let locks = Backend::choose_to_look(backend)?.connect()?;
    let mut all = locks.list()?;
    all.retain(|inspection| !args.held || !inspection.holders.is_empty());
    all.sort_by(|a, b| table::name(a).cmp(table::name(b)));
    if args.json {
        print_json(&all.iter().map(table::json).collect())?;
    } else if !all.is_empty() {
        print(&table::of_locks(&all))?;
    }
    Ok(Ending::Success)
}
