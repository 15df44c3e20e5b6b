//! Whether an agent's output arrived: every line once, in order; and where some could not be written, just as much is
//! missing as was said, there where it was said.

use makima_tests::real::Lines;

/// What a supervisor says where it could not write: how many bytes.
const BEFORE: &str = "[makima: ";
const AFTER: &str = " bytes of output are missing here: they could not be written]";

/// What came in of an agent's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) lines: u64,
    /// Bytes that were told to be missing.
    pub(crate) missing: u64,
}

/// How much an agent has printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Printed {
    /// So many lines on each stream that it uses.
    Just(u64),
    /// That is not known, as it was killed with what had not been read of it.
    Any,
}

/// Reads what the server has of a task's output.
///
/// # Errors
/// Something is lost, doubled, out of order, or not of these lines.
pub(crate) fn read(lines: &Lines, printed: Printed, text: &str) -> Result<Heard, String> {
    let mut reader = Reader { lines, seen: [('o', 0), ('e', 0)], bytes: 0, count: 0, missing: 0 };
    let (mut rest, mut is_first) = (text, true);
    loop {
        let (part, next) = match split(rest)? {
            Some((part, told, next)) => {
                reader.missing += told;
                (part, Some(next))
            }
            None => (rest, None),
        };
        reader.part(part, !is_first, next.is_some() || printed == Printed::Any)?;
        match next {
            Some(next) => (rest, is_first) = (next, false),
            None => break,
        }
    }
    if let Printed::Just(count) = printed {
        reader.is_whole(count)?;
    }
    Ok(Heard { lines: reader.count, missing: reader.missing })
}

/// What stands before the first word of something missing, how much that is, and what comes behind.
fn split(text: &str) -> Result<Option<(&str, u64, &str)>, String> {
    let Some((before, rest)) = text.split_once(BEFORE) else { return Ok(None) };
    let (told, rest) = rest.split_once(AFTER).ok_or("a word of something missing that breaks off")?;
    let told = told.parse().map_err(|_| format!("{told:?} bytes are missing"))?;
    let before = before.strip_suffix('\n').ok_or("a word of something missing that begins no line")?;
    let rest = rest.strip_prefix('\n').ok_or("a word of something missing that ends no line")?;
    Ok(Some((before, told, rest)))
}

struct Reader<'a> {
    lines: &'a Lines,
    /// The last line of each stream.
    seen: [(char, u64); 2],
    bytes: u64,
    count: u64,
    missing: u64,
}

impl Reader<'_> {
    /// Reads what stands between two places where something is missing.
    fn part(&mut self, part: &str, is_torn_before: bool, is_torn_after: bool) -> Result<(), String> {
        self.bytes += part.len() as u64;
        let all: Vec<&str> = part.split_inclusive('\n').collect();
        // Of each stream some may be missing before the first of its lines.
        let mut gaps = [is_torn_before; 2];
        for (at, line) in all.iter().enumerate() {
            if let Some(number) = self.whole(line) {
                self.next(line, number, &mut gaps)?;
                continue;
            }
            let is_end = is_torn_before && at == 0 && line.ends_with('\n') && !line.contains('<');
            let is_end = is_end || is_torn_before && at == 0 && *line == "\n";
            let is_beginning = is_torn_after && at + 1 == all.len() && line.starts_with('<') && !line.contains('>');
            let is_beginning = is_beginning || is_torn_after && at + 1 == all.len() && line.ends_with('>');
            let is_middle = is_torn_before && is_torn_after && all.len() == 1;
            if !is_end && !is_beginning && !is_middle {
                return Err(format!("{line:?} after {:?} is no line of this agent's", self.seen));
            }
        }
        Ok(())
    }

    /// The number of a line that is there from its beginning to its end.
    fn whole(&self, line: &str) -> Option<(usize, u64)> {
        let line = line.strip_suffix('\n')?;
        let at = self
            .seen
            .iter()
            .position(|(stream, _)| line.strip_prefix('<').is_some_and(|it| it.starts_with(*stream)))?;
        let number = line.split(':').nth(1)?.parse().ok()?;
        (line == self.lines.line(self.seen.get(at)?.0, number)).then_some((at, number))
    }

    fn next(&mut self, line: &str, (at, number): (usize, u64), gaps: &mut [bool; 2]) -> Result<(), String> {
        let (Some((stream, last)), Some(gap)) = (self.seen.get_mut(at), gaps.get_mut(at)) else { return Ok(()) };
        let is_next = number == *last + 1 || *gap && number > *last;
        if !is_next {
            return Err(format!("{line:?} follows line {last} of `{stream}`"));
        }
        (*last, *gap) = (number, false);
        self.count += 1;
        Ok(())
    }

    /// What is there, and what is told to be missing, is all that it printed.
    fn is_whole(&self, count: u64) -> Result<(), String> {
        let streams = if self.lines.is_on_both() { ['o', 'e'].as_slice() } else { &['o'] };
        let lengths =
            streams.iter().flat_map(|stream| (1..=count).map(|n| self.lines.line(*stream, n).len() as u64 + 1));
        let printed: u64 = lengths.sum();
        if self.bytes + self.missing == printed {
            return Ok(());
        }
        Err(format!(
            "of {count} lines, which are {printed} bytes, {} bytes are there, and {} are told to be missing; the last lines are {:?}",
            self.bytes, self.missing, self.seen
        ))
    }
}

#[cfg(test)]
mod tests {
    use makima_tests::real::Lines;

    use super::{Heard, Printed, read};

    fn of(count: u64, text: &str) -> Result<Heard, String> {
        read(&Lines::plain(count, "t"), Printed::Just(count), text)
    }

    fn told(bytes: u64) -> String {
        format!("\n[makima: {bytes} bytes of output are missing here: they could not be written]\n")
    }

    #[test]
    fn whole_output_is_taken() {
        assert_eq!(of(3, "<o:1:t>\n<o:2:t>\n<o:3:t>\n"), Ok(Heard { lines: 3, missing: 0 }));
        assert_eq!(of(0, ""), Ok(Heard::default()));
        let both = read(&Lines::both(2, "t"), Printed::Just(2), "<e:1:t>\n<o:1:t>\n<o:2:t>\n<e:2:t>\n");
        assert_eq!(both, Ok(Heard { lines: 4, missing: 0 }));
    }

    #[test]
    fn what_is_told_to_be_missing_is_taken_where_it_is_just_that() {
        for (cut, bytes) in [(8, 8), (8, 16), (0, 8), (11, 3), (11, 9), (16, 8), (0, 24), (7, 1), (7, 2)] {
            let text = "<o:1:t>\n<o:2:t>\n<o:3:t>\n";
            let heard = of(3, &format!("{}{}{}", &text[..cut], told(bytes), &text[cut + bytes as usize..]));
            assert_eq!(heard.map(|it| it.missing), Ok(bytes), "{cut} {bytes}");
            for other in [bytes + 1, bytes - 1] {
                assert!(of(3, &format!("{}{}{}", &text[..cut], told(other), &text[cut + bytes as usize..])).is_err());
            }
        }
    }

    #[test]
    fn what_is_lost_or_doubled_or_out_of_order_or_anothers_is_seen() {
        for text in [
            "",
            "<o:1:t>\n<o:2:t>\n",
            "<o:1:t>\n<o:3:t>\n",
            "<o:2:t>\n<o:1:t>\n<o:3:t>\n",
            "<o:1:t>\n<o:2:t>\n<o:2:t>\n<o:3:t>\n",
            "<o:1:t>\n<o:2:t>\n<o:3:u>\n",
            "<o:1:t>\n<o:2:t>\n<o:3:t>\n<o:4:t>\n",
            "<o:1:t>\n<o:2:t>\n<o:3:t>",
            "<o:1:t>\n<o:2<o:2:t>\n<o:3:t>\n",
            "<o:1:t>\n\n<o:2:t>\n<o:3:t>\n",
        ] {
            assert!(of(3, text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn of_one_that_was_killed_the_beginning_is_enough() {
        let any = |text: &str| read(&Lines::plain(3, "t"), Printed::Any, text);
        assert_eq!(any("<o:1:t>\n<o:2"), Ok(Heard { lines: 1, missing: 0 }));
        assert_eq!(any(""), Ok(Heard::default()));
        assert!(any("<o:2:t>\n").is_err());
        assert!(any("<o:1:t>\n<o:1:t>\n").is_err());
    }
}
