//! Which lock is meant: a name, and which of the locks that a name has.

use std::num::NonZeroU32;

use pilotman::Primitive;

use crate::args::Kind;

impl Kind {
    pub(crate) fn primitive(self) -> Primitive {
        match self.permits.and_then(NonZeroU32::new) {
            Some(permits) => Primitive::Permit(permits),
            None if self.shared => Primitive::Read,
            None if self.exclusive => Primitive::Write,
            None => Primitive::Mutex,
        }
    }
}
