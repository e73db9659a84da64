//! Who held the lock when, over all processes, and what that says.

use std::time::Duration;

use crate::{Failure, milliseconds};

/// One hold. Times are the machine's.
#[derive(Debug, Clone, Copy)]
pub struct Hold {
    /// Which process it was.
    pub process: usize,
    /// When the acquire was called.
    pub asked: Duration,
    /// When it had returned.
    pub acquired: Duration,
    /// When the release was called.
    pub released: Duration,
    /// 0 for the bare list, which has none.
    pub token: u64,
}

impl Hold {
    /// As the process tells it, without which one it is.
    pub fn line(&self) -> String {
        let Self { asked, acquired, released, token, .. } = self;
        format!("{} {} {} {token}", asked.as_nanos(), acquired.as_nanos(), released.as_nanos())
    }

    /// What [`Self::line`] wrote.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn parse(process: usize, line: &str) -> Result<Self, Failure> {
        let numbers: Vec<u64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [asked, acquired, released, token] = numbers[..] else {
            return Err(format!("a worker said {line:?}").into());
        };
        let [asked, acquired, released] = [asked, acquired, released].map(Duration::from_nanos);
        Ok(Self { process, asked, acquired, released, token })
    }
}

/// What a history amounts to. Times in milliseconds.
#[derive(Debug, Default)]
pub struct Summary {
    /// From the start of a release to the return of the acquire of another process.
    pub elsewhere: Vec<f64>,
    /// The same, where the next holder is of the same process.
    pub here: Vec<f64>,
    /// How long each acquire took.
    pub waits: Vec<f64>,
}

impl Summary {
    /// Puts the holds in order. Of the last `tail` holds nothing counts: towards the end fewer and fewer wait.
    ///
    /// # Errors
    ///
    /// If two held the lock at once, or a later holder had a smaller token: then it is no lock that was measured.
    pub fn of(mut holds: Vec<Hold>, tail: usize) -> Result<Self, Failure> {
        holds.sort_by_key(|hold| hold.acquired);
        let mut summary = Self::default();
        for pair in holds.windows(2) {
            let [before, after] = pair else { continue };
            if after.acquired < before.released {
                return Err(format!("two held the lock at once: {before:?} and {after:?}").into());
            }
            if after.token < before.token {
                return Err(format!("the token went back: {before:?} and {after:?}").into());
            }
        }
        holds.truncate(holds.len().saturating_sub(tail));
        for pair in holds.windows(2) {
            let [before, after] = pair else { continue };
            let gap = milliseconds(after.acquired - before.released);
            if before.process == after.process { &mut summary.here } else { &mut summary.elsewhere }.push(gap);
        }
        summary.waits = holds.iter().map(|hold| milliseconds(hold.acquired.saturating_sub(hold.asked))).collect();
        Ok(summary)
    }

    /// Adds what another run came to.
    pub fn append(&mut self, mut other: Self) {
        self.elsewhere.append(&mut other.elsewhere);
        self.here.append(&mut other.here);
        self.waits.append(&mut other.waits);
    }

    /// Not a number if there were no holds.
    pub fn mean_wait(&self) -> f64 {
        self.waits.iter().sum::<f64>() / self.waits.len() as f64
    }

    /// 0 if there were no holds.
    pub fn longest_wait(&self) -> f64 {
        self.waits.iter().copied().fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(process: usize, asked: u64, acquired: u64, released: u64, token: u64) -> Hold {
        let [asked, acquired, released] = [asked, acquired, released].map(Duration::from_millis);
        Hold { process, asked, acquired, released, token }
    }

    #[test]
    fn gaps_are_between_neighbours_whatever_the_order_they_come_in() {
        let holds = vec![hold(1, 0, 20, 30, 2), hold(0, 0, 5, 10, 1), hold(1, 25, 34, 40, 2), hold(0, 0, 50, 60, 3)];
        let summary = Summary::of(holds.clone(), 0).unwrap();
        assert_eq!((summary.elsewhere.as_slice(), summary.here.as_slice()), (&[10.0, 10.0][..], &[4.0][..]));
        assert_eq!(summary.waits, [5.0, 20.0, 9.0, 50.0]);
        assert_eq!((summary.mean_wait(), summary.longest_wait()), (21.0, 50.0));
        assert_eq!(Summary::of(holds, 2).unwrap().waits, [5.0, 20.0]);
    }

    #[test]
    fn what_is_no_lock_is_refused() {
        assert!(Summary::of(vec![hold(0, 0, 5, 10, 1), hold(1, 0, 9, 12, 2)], 0).is_err());
        assert!(Summary::of(vec![hold(0, 0, 5, 10, 2), hold(1, 0, 11, 12, 1)], 0).is_err());
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let read = Hold::parse(3, &hold(0, 1, 2, 3, 4).line()).unwrap();
        assert_eq!((read.process, read.line()), (3, "1000000 2000000 3000000 4".to_owned()));
        assert!(Hold::parse(0, "1 2 3").is_err() && Hold::parse(0, "a b c d").is_err());
    }
}
