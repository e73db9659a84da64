//! The cases, by what they are about.

use crate::case::{Case, Exclusive, Forms, Run};
use crate::context::Ctx;

mod all;
mod cancel;
mod close;
mod input;
mod inspect;
mod lease;
mod loss;
mod mutex;
mod names;
mod process;
mod queue;
mod runtime;
mod rw;
mod semaphore;
mod timeouts;
mod tokens;
mod upgradeable;

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    [
        mutex::CASES,
        rw::CASES,
        upgradeable::CASES,
        semaphore::CASES,
        all::CASES,
        names::CASES,
        input::CASES,
        timeouts::CASES,
        cancel::CASES,
        queue::CASES,
        tokens::CASES,
        loss::CASES,
        lease::CASES,
        process::CASES,
        runtime::CASES,
        inspect::CASES,
        close::CASES,
    ]
    .concat()
}

const fn plain(group: &'static str, name: &'static str, needs: &'static [&'static str], run: fn(&Ctx)) -> Case {
    Case { group, name, needs, forms: Forms::Both, run: Run::Plain(run) }
}

const fn exclusive(
    group: &'static str,
    name: &'static str,
    needs: &'static [&'static str],
    run: fn(&Ctx, Exclusive),
) -> Case {
    Case { group, name, needs, forms: Forms::Both, run: Run::Exclusive(run) }
}

const fn only(forms: Forms, case: Case) -> Case {
    Case { forms, ..case }
}
