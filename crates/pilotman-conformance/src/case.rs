//! What a case is, and the list of all of them.

use pilotman_core::Capabilities;

use crate::context::Ctx;
use crate::surface::{Client, Form, Kind, Lock};
use crate::under_test::{LeaseCases, UnderTest};

/// On which surfaces a case runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forms {
    Both,
    Async,
    Blocking,
}

/// A case for any backend that claims what it needs.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) group: &'static str,
    pub(crate) name: &'static str,
    /// The claims that it needs, and tests, by their names in [`Capabilities::claims`].
    pub(crate) needs: &'static [&'static str],
    pub(crate) forms: Forms,
    pub(crate) run: Run,
}

#[derive(Clone, Copy)]
pub(crate) enum Run {
    /// Once.
    Plain(fn(&Ctx)),
    /// Once for each primitive that can serve as a mutex.
    Exclusive(fn(&Ctx, Exclusive)),
}

/// A primitive that serves as a mutex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exclusive {
    Mutex,
    Writer,
    Upgradeable,
    /// A semaphore with one permit.
    Semaphore1,
    /// A semaphore with five permits, four of them taken by somebody else.
    Semaphore5,
    /// Two mutexes at once.
    All,
}

impl Exclusive {
    pub(crate) const EACH: [Self; 6] =
        [Self::Mutex, Self::Writer, Self::Upgradeable, Self::Semaphore1, Self::Semaphore5, Self::All];

    fn group(self) -> &'static str {
        match self {
            Self::Mutex => "mutex",
            Self::Writer => "writer_as_mutex",
            Self::Upgradeable => "upgradeable_as_mutex",
            Self::Semaphore1 => "semaphore_1_as_mutex",
            Self::Semaphore5 => "semaphore_5_as_mutex",
            Self::All => "all_as_mutex",
        }
    }

    fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Mutex | Self::All => &["mutex"],
            Self::Writer => &["rw_lock"],
            Self::Upgradeable => &["upgradeable"],
            Self::Semaphore1 | Self::Semaphore5 => &["semaphore"],
        }
    }

    pub(crate) fn kind(self, name: &str) -> Kind {
        match self {
            Self::Mutex => Kind::Mutex,
            Self::Writer => Kind::Writer,
            Self::Upgradeable => Kind::Upgradeable,
            Self::Semaphore1 => Kind::Permit(1),
            Self::Semaphore5 => Kind::Permit(5),
            Self::All => Kind::All(vec![format!("{name}-too")]),
        }
    }

    /// A new name, with what others have to hold of it taken.
    pub(crate) fn name(self, ctx: &Ctx) -> String {
        let name = ctx.name();
        self.adopt(ctx, &name);
        name
    }

    /// Makes a name that the case has chosen ready for use.
    pub(crate) fn adopt(self, ctx: &Ctx, name: &str) {
        ctx.watch(self.kind(name), name);
        if self == Self::Semaphore5 {
            let other = ctx.client().semaphore(name, 5);
            (0..4).for_each(|_| ctx.keep(other.take()));
        }
    }

    pub(crate) fn lock(self, client: &Client, name: &str) -> Lock {
        client.lock(self.kind(name), name)
    }
}

/// A case as it is run: on one surface, of one primitive.
pub(crate) struct Variant {
    pub(crate) name: String,
    pub(crate) form: Form,
    exclusive: Option<Exclusive>,
    pub(crate) needs: Vec<&'static str>,
    /// It takes as long as leases last.
    waits_for_leases: bool,
    case: Run,
}

impl Variant {
    pub(crate) fn run(&self, ctx: &Ctx) {
        match (self.case, self.exclusive) {
            (Run::Plain(run), _) => run(ctx),
            (Run::Exclusive(run), Some(exclusive)) => run(ctx, exclusive),
            (Run::Exclusive(_), None) => unreachable!("a variant of it names its primitive"),
        }
    }
}

impl Case {
    /// All forms of it, whatever is claimed.
    fn variants(&self) -> Vec<Variant> {
        let forms: &[Form] = match self.forms {
            Forms::Both => &[Form::Async, Form::Blocking],
            Forms::Async => &[Form::Async],
            Forms::Blocking => &[Form::Blocking],
        };
        let exclusives: Vec<Option<Exclusive>> = match self.run {
            Run::Plain(_) => vec![None],
            Run::Exclusive(_) => Exclusive::EACH.into_iter().map(Some).collect(),
        };
        let variant = |form: Form, exclusive: Option<Exclusive>| {
            let group = match exclusive {
                Some(exclusive) if self.group == "mutex" => exclusive.group().to_owned(),
                Some(exclusive) => format!("{}::{}", self.group, exclusive.group().trim_end_matches("_as_mutex")),
                None => self.group.to_owned(),
            };
            let mut needs = self.needs.to_vec();
            needs.extend(exclusive.map(Exclusive::needs).unwrap_or_default());
            Variant {
                name: format!("{}::{group}::{}", form.as_str(), self.name),
                form,
                exclusive,
                needs,
                // A process that died frees what it had with its leases.
                waits_for_leases: self.group == "lease" || ["exit_without_release", "kill"].contains(&self.name),
                case: self.run,
            }
        };
        forms.iter().flat_map(|form| exclusives.iter().map(|exclusive| variant(*form, *exclusive))).collect()
    }
}

/// Every case in every form.
pub(crate) fn every() -> Vec<Variant> {
    crate::cases::all().iter().flat_map(Case::variants).collect()
}

/// What a case can need beside a claim.
fn is_met(need: &str, under_test: &UnderTest, capabilities: &Capabilities) -> bool {
    match need {
        "lose" => Ctx::can_lose(under_test, capabilities),
        "no fencing" => capabilities.fencing == pilotman_core::Fencing::None,
        "no lease" => capabilities.lease.is_none(),
        claim => capabilities.claims().into_iter().any(|(name, claimed)| name == claim && claimed),
    }
}

/// The claims that the suite knows. A backend that claims another one fails until there are cases for it.
pub(crate) const KNOWN: [&str; 13] = [
    "mutex",
    "rw_lock",
    "upgradeable",
    "semaphore",
    "writer_preference",
    "fifo",
    "fencing",
    "lease",
    "loss",
    "cross_process",
    "inspect",
    "list",
    "force_release",
];

/// The cases for a backend.
pub(crate) fn chosen(under_test: &UnderTest, capabilities: &Capabilities) -> Vec<Variant> {
    let wanted = |variant: &Variant| {
        let is_async = variant.form == Form::Async;
        let is_leased = capabilities.lease.is_some() && variant.waits_for_leases;
        let in_time = match under_test.lease_cases {
            LeaseCases::All => true,
            LeaseCases::Async => is_async || !is_leased,
            LeaseCases::None => !is_leased,
        };
        in_time && (is_async || !under_test.async_only)
    };
    let met =
        |variant: &Variant| wanted(variant) && variant.needs.iter().all(|need| is_met(need, under_test, capabilities));
    every().into_iter().filter(met).collect()
}
