//! Whether an agent's output arrived: every line, in order, of this agent only.
//!
//! Version 1 of the wire may give a stretch a second time where it is not known whether the first arrived. Such a stretch
//! begins with a line that was there before, or the one that was cut off in the middle; never behind one that is missing.

use makima_tests::real::Lines;

/// What came in of an agent's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Lines, each counted once.
    pub(crate) lines: u64,
    /// Lines that came again.
    pub(crate) again: u64,
    /// Lines that broke off, and came again from their beginning.
    pub(crate) torn: u64,
}

/// Reads what the server has of a task's output.
///
/// # Errors
/// Something is missing, out of order, or not of these lines.
pub(crate) fn read(lines: &Lines, text: &str) -> Result<Heard, String> {
    let mut heard = Heard::default();
    let mut seen = [('o', 0), ('e', 0)];
    let (before, text) = text.split_at(text.find('<').unwrap_or(text.len()));
    if !before.is_empty() {
        return Err(format!("it begins with {before:?}"));
    }
    for part in text.split_inclusive('\n').flat_map(parts) {
        let Some((_, highest)) = seen.iter_mut().find(|(stream, _)| part.chars().nth(1).unwrap_or('o') == *stream)
        else {
            return Err(format!("{part:?} is on no stream"));
        };
        let stream = part.chars().nth(1).unwrap_or('o');
        match number(part) {
            Some(n) if part.strip_suffix('\n') == Some(&lines.line(stream, n)) => {
                if n > *highest + 1 {
                    return Err(format!("line {n} of `{stream}` follows line {highest}"));
                }
                heard.again += u64::from(n <= *highest);
                *highest = n.max(*highest);
            }
            _ if (1..=*highest + 1).rev().any(|n| lines.line(stream, n).starts_with(part)) => heard.torn += 1,
            _ => return Err(format!("{part:?} after line {highest} of `{stream}` is no line of this agent's")),
        }
    }
    for (stream, highest) in seen {
        let expected = if stream == 'o' || lines.is_on_both() { lines.count } else { 0 };
        if highest != expected {
            return Err(format!("of {expected} lines of `{stream}` there are {highest}"));
        }
        heard.lines += highest;
    }
    Ok(heard)
}

/// A line that broke off is followed by the beginning of another on the same line.
fn parts(line: &str) -> impl Iterator<Item = &str> {
    let begins: Vec<usize> = line.match_indices('<').map(|(at, _)| at).collect();
    let ends: Vec<usize> = begins.iter().skip(1).copied().chain([line.len()]).collect();
    let first = begins.first().copied().unwrap_or(line.len());
    let strange = (first > 0).then(|| line.get(..first)).flatten();
    strange.into_iter().chain(begins.into_iter().zip(ends).filter_map(|(from, to)| line.get(from..to)))
}

/// The number in `<o:12:…`.
fn number(part: &str) -> Option<u64> {
    part.split(':').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Heard, read};
    use makima_tests::real::Lines;

    fn told(text: &str) -> Result<Heard, String> {
        read(&Lines::plain(3, "t"), text)
    }

    #[test]
    fn whole_and_repeated_output_is_taken() {
        assert_eq!(told("<o:1:t>\n<o:2:t>\n<o:3:t>\n"), Ok(Heard { lines: 3, again: 0, torn: 0 }));
        let again = "<o:1:t>\n<o:2:t>\n<o:1:t>\n<o:2:t>\n<o:3:t>\n";
        assert_eq!(told(again), Ok(Heard { lines: 3, again: 2, torn: 0 }));
        assert_eq!(told("<o:1:t>\n<o:2<o:2:t>\n<o:3:t><o:3:t>\n"), Ok(Heard { lines: 3, again: 0, torn: 2 }));
    }

    #[test]
    fn what_is_lost_or_out_of_order_or_anothers_is_seen() {
        for text in [
            "",
            "<o:1:t>\n<o:2:t>\n",
            "<o:1:t>\n<o:3:t>\n",
            "<o:2:t>\n<o:1:t>\n<o:3:t>\n",
            "<o:1:t>\n<o:2:t>\n<o:3:u>\n",
            "<o:1:t>\n2:t>\n<o:2:t>\n<o:3:t>\n",
            "t>\n<o:1:t>\n<o:2:t>\n<o:3:t>\n",
            "<o:1:t>\n<o:2:t>\n<o:3:t>\n<o:4:t>\n",
            "<o:1:t>\n<o:2:t>\n<o:3:t>\n<e:1:t>\n",
            "<o:1:t>\n<x:2:t>\n<o:2:t>\n<o:3:t>\n",
            "<o:1:t>\n<o:2:t>\n<o:3<o:3:t>\nmore\n",
        ] {
            assert!(told(text).is_err(), "{text:?}");
        }
    }
}
