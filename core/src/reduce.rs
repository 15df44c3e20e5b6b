//! Makes a list of what happened short, as long as it still goes wrong in the same way: for recordings, and for the runs
//! of the simulated world.

use alloc::vec::Vec;

/// What is left of a list when whatever can be left out of it is left out, in the same order. `holds` says whether a
/// shorter list still shows what it is kept for; of the list itself it is taken to be so.
///
/// Takes away halves, quarters and so on down to single ones, as long as that makes it shorter.
pub fn reduce<T: Clone>(list: Vec<T>, mut holds: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut best = list;
    loop {
        let before = best.len();
        let mut size = before.div_ceil(2).max(1);
        loop {
            let mut at = 0_usize;
            while at < best.len() {
                let end = at.saturating_add(size);
                let left = best.iter().enumerate().filter(|(place, _)| !(at..end).contains(place));
                let shorter: Vec<T> = left.map(|(_, one)| one.clone()).collect();
                if holds(&shorter) {
                    best = shorter;
                } else {
                    at = end;
                }
            }
            if size == 1 {
                break;
            }
            size = size.div_euclid(2);
        }
        if best.len() == before {
            return best;
        }
    }
}

/// Whether two checks that failed are the same one, whatever task or number it was about.
#[must_use]
pub fn alike(one: &str, other: &str) -> bool {
    fn words(text: &str) -> impl Iterator<Item = &str> {
        text.split_whitespace().filter(|word| word.chars().all(char::is_alphabetic)).take(6)
    }
    words(one).eq(words(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects people from reading what has nothing to do with it: nothing is left that could be left out.
    #[test]
    fn what_is_left_is_needed() {
        for needed in [&[][..], &[0], &[99], &[3, 4, 77], &[0, 50, 99]] {
            let mut tried = 0;
            let left = reduce((0..100).collect(), |some: &[u32]| {
                tried += 1;
                needed.iter().all(|one| some.contains(one))
            });
            assert_eq!(left, needed);
            assert!(tried < 100, "{tried} for {needed:?}");
        }
        assert!(reduce(Vec::<u32>::new(), |_| true).is_empty());
    }

    #[test]
    fn the_same_check_is_about_any_task() {
        assert!(alike("7 was started 2 times", "19 was started 3 times"));
        assert!(!alike("7 was started 2 times", "7 was ended 2 times"));
        assert!(!alike("too many", "too many tasks"));
    }
}
