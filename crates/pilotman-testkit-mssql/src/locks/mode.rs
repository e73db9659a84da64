//! The modes of an application lock, what goes together, and what two of them make.

use std::fmt;

/// The mode of an application lock.
///
/// The first five can be asked for. The last two come about when one owner holds two of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// `IntentShared`.
    IntentShared,
    /// `Shared`.
    Shared,
    /// `Update`: one at a time, together with `Shared`.
    Update,
    /// `IntentExclusive`.
    IntentExclusive,
    /// `Exclusive`.
    Exclusive,
    /// `SharedIntentExclusive`: `Shared` and `IntentExclusive` of one owner.
    SharedIntentExclusive,
    /// `UpdateIntentExclusive`: `Update` and `IntentExclusive` of one owner.
    UpdateIntentExclusive,
}

impl Mode {
    /// Every mode, weakest first.
    pub const ALL: [Self; 7] = [
        Self::IntentShared,
        Self::Shared,
        Self::Update,
        Self::IntentExclusive,
        Self::SharedIntentExclusive,
        Self::UpdateIntentExclusive,
        Self::Exclusive,
    ];

    /// The mode that `@LockMode` names, in any case. `None` for what can't be asked for.
    pub fn requested(name: &str) -> Option<Self> {
        [Self::IntentShared, Self::Shared, Self::Update, Self::IntentExclusive, Self::Exclusive]
            .into_iter()
            .find(|mode| mode.name().eq_ignore_ascii_case(name.trim_end()))
    }

    /// What `APPLOCK_MODE` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::IntentShared => "IntentShared",
            Self::Shared => "Shared",
            Self::Update => "Update",
            Self::IntentExclusive => "IntentExclusive",
            Self::Exclusive => "Exclusive",
            Self::SharedIntentExclusive => "SharedIntentExclusive",
            Self::UpdateIntentExclusive => "UpdateIntentExclusive",
        }
    }

    /// What `sys.dm_tran_locks` calls it.
    pub fn short_name(self) -> &'static str {
        match self {
            Self::IntentShared => "IS",
            Self::Shared => "S",
            Self::Update => "U",
            Self::IntentExclusive => "IX",
            Self::Exclusive => "X",
            Self::SharedIntentExclusive => "SIX",
            Self::UpdateIntentExclusive => "UIX",
        }
    }

    /// The basic locks that it consists of.
    fn parts(self) -> u8 {
        const IS: u8 = 1;
        const S: u8 = 2;
        const U: u8 = 4;
        const IX: u8 = 8;
        const X: u8 = 16;
        match self {
            Self::IntentShared => IS,
            Self::Shared => IS | S,
            Self::Update => IS | S | U,
            Self::IntentExclusive => IS | IX,
            Self::Exclusive => IS | S | U | IX | X,
            Self::SharedIntentExclusive => IS | S | IX,
            Self::UpdateIntentExclusive => IS | S | U | IX,
        }
    }

    /// Whether two owners can hold these at the same time.
    pub fn goes_with(self, other: Self) -> bool {
        let (weaker, stronger) = if self.rank() <= other.rank() { (self, other) } else { (other, self) };
        match weaker {
            Self::IntentShared => stronger != Self::Exclusive,
            Self::Shared => matches!(stronger, Self::Shared | Self::Update),
            Self::IntentExclusive => stronger == Self::IntentExclusive,
            _ => false,
        }
    }

    fn rank(self) -> u8 {
        self.parts()
    }

    /// What an owner holds that has both: the weakest mode that covers the two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let both = self.parts() | other.parts();
        Self::ALL.into_iter().find(|mode| mode.parts() == both).unwrap_or(Self::Exclusive)
    }

    /// Whether who holds this has `other`, too.
    pub fn covers(self, other: Self) -> bool {
        self.and(other) == self
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
