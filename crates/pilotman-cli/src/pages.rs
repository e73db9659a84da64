//! What is generated from the definition of the command line: completions and manual pages.

use clap::CommandFactory;

use crate::args::{Cli, Completions, Man};
use crate::exit::{Ending, Failure};
use crate::output::print;

pub(crate) fn completions(args: &Completions) -> Result<Ending, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pilotman", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Ending::Success)
}

pub(crate) fn man(args: &Man) -> Result<Ending, Failure> {
    let mut all = Cli::command();
    all.build();
    let command = match &args.subcommand {
        None => all,
        Some(name) => {
            let unknown = || Failure::usage(format!("there is no subcommand '{name}'"));
            let page = format!("pilotman-{name}");
            all.find_subcommand(name).ok_or_else(unknown)?.clone().display_name(page)
        }
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .map_err(|error| Failure::internal("can't make the page", error))?;
    print(&String::from_utf8_lossy(&page))?;
    Ok(Ending::Success)
}
