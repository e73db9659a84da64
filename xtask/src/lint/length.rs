//! Files stay short: one idea each.

use super::Finding;
use super::source::Source;

const MOST_LINES: usize = 600;

/// Checks one file.
pub(super) fn check(source: &Source) -> Option<Finding> {
    let lines = source.text.lines().count();
    let message = format!("{lines} lines, more than {MOST_LINES}: part it by ideas");
    (lines > MOST_LINES).then(|| Finding::new(&source.path, 0, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::source::sample;

    #[test]
    fn a_file_may_have_the_limit_and_no_more() {
        assert_eq!(check(&sample(&"\n".repeat(MOST_LINES))), None);
        assert!(check(&sample(&"\n".repeat(MOST_LINES + 1))).is_some());
    }
}
