//! `cargo xtask docs`: the API documentation without a warning, and the generated parts of the Markdown files.

mod blocks;
mod tables;

use std::fs;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{shell, workspace};

#[derive(Args)]
pub(crate) struct Options {
    /// Change nothing; fail when a generated part is stale.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut command = shell::cargo();
    shell::run(
        command.args(["doc", "--workspace", "--lib", "--no-deps", "--all-features"]).env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    let mut stale = Vec::new();
    let mut generated = tables::Tables::default();
    for path in workspace::files("md")? {
        let old = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = workspace::display(&path);
        let new = blocks::fill(&old, |table| generated.get(table)).with_context(|| name.clone())?;
        if new == old {
            continue;
        }
        if !options.check {
            fs::write(&path, new).with_context(|| format!("cannot write {}", path.display()))?;
            println!("written: {name}");
        }
        stale.push(name);
    }
    if options.check && !stale.is_empty() {
        bail!("generated parts are stale in {} (`cargo xtask docs` writes them)", stale.join(", "));
    }
    println!("docs: clean");
    Ok(())
}
