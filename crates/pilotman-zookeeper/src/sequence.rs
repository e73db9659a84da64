//! The order of sequential nodes. Their numbers have 32 bits with a sign and wrap around.

/// No gap is so large but the one between the newest and the oldest.
const GAP: u32 = 4_000_000_000;

/// The number at the end of a node's name, as the server writes it (`%010d`).
pub(crate) fn number(digits: &str) -> Option<i32> {
    let is_written_so = match digits.as_bytes() {
        [first, ..] if digits.len() == 10 => *first != b'+',
        [b'-', ..] => digits.len() == 11,
        _ => false,
    };
    if is_written_so { digits.parse().ok() } else { None }
}

/// Sorts by number, oldest first. `Err`: the numbers don't tell which is the oldest; then they stand as numbers without
/// signs do, and [`begin_with`] has to be told.
pub(crate) fn sort<T>(nodes: &mut [T], number: impl Fn(&T) -> i32) -> Result<(), ()> {
    nodes.sort_by_key(|node| number(node) as u32);
    if nodes.len() < 2 {
        return Ok(());
    }
    let unsigned = |at: usize| number(&nodes[at % nodes.len()]) as u32;
    let first = (0..nodes.len()).find(|&at| unsigned(at + 1).wrapping_sub(unsigned(at)) >= GAP);
    match first {
        Some(before) => {
            begin_with(nodes, (before + 1) % nodes.len());
            Ok(())
        }
        None => Err(()),
    }
}

/// Turns the ring so that it begins here.
pub(crate) fn begin_with<T>(nodes: &mut [T], oldest: usize) {
    nodes.rotate_left(oldest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_read_as_the_dotnet_library_reads_them() {
        for (digits, expected) in [
            ("", None),
            ("0000000002", Some(2)),
            ("000000002", None),
            ("00000000112", None),
            ("-000000002", Some(-2)),
            ("0000000402", Some(402)),
            ("2147483647", Some(i32::MAX)),
            ("-000000001", Some(-1)),
            ("-2147483648", Some(i32::MIN)),
            (" 000000002", None),
            ("000000002 ", None),
            ("+000000002", None),
            ("9999999999", None),
        ] {
            assert_eq!(number(digits), expected, "{digits:?}");
        }
    }

    fn sorted(numbers: &[i32]) -> Result<Vec<i32>, Vec<i32>> {
        let mut numbers = numbers.to_vec();
        match sort(&mut numbers, |&number| number) {
            Ok(()) => Ok(numbers),
            Err(()) => Err(numbers),
        }
    }

    #[test]
    fn one_large_gap_is_where_the_numbers_begin() {
        const MIN: i32 = i32::MIN;
        const MAX: i32 = i32::MAX;
        for (numbers, expected) in [
            (vec![], vec![]),
            (vec![7], vec![7]),
            (vec![5, 3, 1], vec![1, 3, 5]),
            (
                vec![-1_000_000_000, -1_000_000_050, -1_000_000_500],
                vec![-1_000_000_500, -1_000_000_050, -1_000_000_000],
            ),
            (
                vec![MAX, MAX - 1, MAX - 100, MIN, MIN + 9, MIN + 90],
                vec![MAX - 100, MAX - 1, MAX, MIN, MIN + 9, MIN + 90],
            ),
            (vec![1, 15, 6, -1, -3], vec![-3, -1, 1, 6, 15]),
        ] {
            assert_eq!(sorted(&numbers), Ok(expected), "{numbers:?}");
        }
    }

    #[test]
    fn without_one_their_age_has_to_be_asked_for() {
        const MIN: i32 = i32::MIN;
        const MAX: i32 = i32::MAX;
        for numbers in [
            vec![4, 2, 0, MAX, MAX - 3, MAX - 5],
            vec![-300, -301, -302, MIN, MIN + 10, MIN + 100],
            vec![MAX, -1000],
            vec![MIN, 2_000_000],
        ] {
            let mut ring = sorted(&numbers).expect_err("no gap is large enough");
            let unsigned: Vec<u32> = ring.iter().map(|&number| number as u32).collect();
            assert!(unsigned.is_sorted(), "{ring:?}");
            let last = *ring.last().unwrap();
            let at = ring.len() - 1;
            begin_with(&mut ring, at);
            assert_eq!(ring[0], last);
        }
    }

    proptest! {
        #[test]
        fn a_queue_is_in_order_wherever_its_numbers_are(start in any::<i32>(), steps in prop::collection::vec(1..1000i32, 1..50)) {
            let queue: Vec<i32> = steps.iter().scan(start, |at, step| { *at = at.wrapping_add(*step); Some(*at) }).collect();
            let mut shuffled = queue.clone();
            shuffled.reverse();
            prop_assert_eq!(sorted(&shuffled), Ok(queue));
        }
    }
}
