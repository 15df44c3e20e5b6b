//! Keeping secrets out of what is shown.
//!
//! A byte is masked if any occurrence of any pattern covers it; each run of masked bytes shows as `***`.
//! That says nothing about where the text is cut into pieces, so the pieces can be made to agree with the
//! whole: each is looked at together with what its stream wrote right before, and an end that could be the
//! beginning of a secret is held back until more is known.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use makima_core::id::SecretId;
use makima_core::policy::{self, MASK};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Shorter values are no secrets: masking them would garble ordinary text.
const SHORTEST: usize = 8;
/// Longer values are masked in pieces of this length: no piece of a text is held back for longer.
const LONGEST: usize = 4096;

/// What RFC 3986 leaves as it is, as most programs do.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// What `encodeURIComponent` leaves as it is.
const COMPONENT: &AsciiSet = &UNRESERVED.remove(b'!').remove(b'*').remove(b'\'').remove(b'(').remove(b')');

/// All secrets that the daemon knows. Cheap to clone; the clones share them.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Arc<RwLock<Known>>);

#[derive(Default)]
struct Known {
    named: BTreeMap<SecretId, String>,
    others: BTreeSet<String>,
    masker: Arc<Masker>,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} secrets", self.named.len() + self.others.len())
    }
}

impl Secrets {
    /// Keeps a secret by its name.
    pub fn set(&self, id: SecretId, value: impl Into<String>) {
        let value = value.into();
        self.change(|known| known.named.insert(id, value.clone()).is_none_or(|old| old != value));
    }

    /// The value of a secret.
    #[must_use]
    pub fn get(&self, id: SecretId) -> Option<String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).named.get(&id).cloned()
    }

    /// Masks a value from now on.
    pub fn add(&self, value: impl Into<String>) {
        let value = value.into();
        if value.len() >= SHORTEST {
            self.change(|known| known.others.insert(value));
        }
    }

    /// Masks the value of a variable from now on, if its name says that it is a secret.
    pub fn add_variable(&self, name: &str, value: &str) {
        if policy::is_secret(name) {
            self.add(value);
        }
    }

    /// A text without them.
    #[must_use]
    pub fn masked(&self, text: &str) -> String {
        self.masker().whole(text)
    }

    pub(super) fn masker(&self) -> Arc<Masker> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).masker)
    }

    fn change(&self, change: impl FnOnce(&mut Known) -> bool) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut known);
        if changed {
            let values: Vec<&str> = known.named.values().chain(&known.others).map(String::as_str).collect();
            known.masker = Arc::new(Masker::new(values));
        }
    }
}

/// What is held back of the end of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// More may come: the beginning of a secret or of a character is held back.
    Open,
    /// The stream goes on, but not here: what could be the beginning of a secret is masked.
    Broken,
    /// Nothing comes any more.
    Final,
}

/// A piece of a stream, made fit to be shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) text: String,
    /// How much of the piece is shown; the rest is held back.
    pub(super) used: usize,
    /// The place in the piece right behind the last newline of `text`.
    pub(super) line_end: Option<usize>,
    /// What the stream wrote right before what comes next, as far as it has a say in it.
    pub(super) recent: Vec<u8>,
    /// How many bytes of a cut character were left out at its end, to be shown with their rest.
    pub(super) omitted: usize,
}

/// Finds secrets.
#[derive(Debug, Default)]
pub(super) struct Masker {
    engines: Option<Engines>,
    /// Sorted.
    patterns: Vec<Vec<u8>>,
    /// Whether a pattern begins with this byte.
    begins: Vec<bool>,
    longest: usize,
}

#[derive(Debug)]
struct Engines {
    /// Tells fast that there is nothing.
    any: AhoCorasick,
    /// Tells of every occurrence, also where they overlap.
    all: AhoCorasick,
}

impl Masker {
    fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut patterns: BTreeSet<Vec<u8>> = BTreeSet::new();
        for value in values {
            patterns.extend(forms(value).iter().flat_map(|form| pieces(form)));
        }
        let patterns: Vec<Vec<u8>> = patterns.into_iter().collect();
        let build = |kind| AhoCorasick::builder().match_kind(kind).build(&patterns).ok();
        let engines = match (patterns.is_empty(), build(MatchKind::LeftmostLongest), build(MatchKind::Standard)) {
            (false, Some(any), Some(all)) => Some(Engines { any, all }),
            _ => None,
        };
        let mut begins = vec![false; 256];
        for first in patterns.iter().filter_map(|pattern| pattern.first()) {
            if let Some(slot) = begins.get_mut(usize::from(*first)) {
                *slot = true;
            }
        }
        let longest = patterns.iter().map(Vec::len).max().unwrap_or_default();
        Self { engines, patterns, begins, longest }
    }

    /// How many bytes before a piece have a say in how it is shown.
    pub(super) fn memory(&self) -> usize {
        // A character has four bytes at most; what was left out of one is shown with its rest.
        self.longest.max(4)
    }

    /// Whether there is anything to be masked.
    pub(super) fn has_secrets(&self) -> bool {
        self.engines.is_some()
    }

    /// Shows the piece `bytes[before..]` of a stream; `bytes[..before]` is what the stream wrote right before,
    /// of which the last `omitted` were left out.
    pub(super) fn show(&self, mut bytes: Vec<u8>, before: usize, omitted: usize, ending: Ending) -> Shown {
        let mut covered = self.covered(&bytes);
        let mut end = bytes.len();
        if ending != Ending::Final {
            let tail = self.tail(&bytes);
            if tail < end && ending == Ending::Open {
                end = tail.max(before);
            } else if tail < end {
                cover(&mut covered, tail..bytes.len());
            }
        }
        let mut start = before;
        let is_covered = |covered: &[Range<usize>], at: usize| covered.iter().any(|run| run.contains(&at));
        if omitted > 0 && end > before && !is_covered(&covered, before.saturating_sub(omitted)) {
            start = before.saturating_sub(omitted);
        }
        let left = cut_character(bytes.get(start..end).unwrap_or_default());
        let mut shown_end = end;
        let mut omitted = 0;
        if ending != Ending::Final && left > 0 && !is_covered(&covered, end - 1) {
            shown_end -= left;
            if ending == Ending::Open {
                end = shown_end.max(before);
            } else {
                omitted = left;
            }
        }
        let recent = bytes.get(end.saturating_sub(self.memory())..end).unwrap_or_default().to_vec();
        let (text, newline) = if covered.is_empty() {
            bytes.truncate(shown_end.max(start));
            let newline = bytes.iter().skip(start).rposition(|byte| *byte == b'\n').map(|at| start + at + 1);
            bytes.drain(..start);
            let text = String::from_utf8(bytes);
            (text.unwrap_or_else(|wrong| String::from_utf8_lossy(wrong.as_bytes()).into_owned()), newline)
        } else {
            replace(&bytes, start..shown_end.max(start), &covered)
        };
        Shown { text, used: end - before, line_end: newline.map(|at| at.saturating_sub(before)), recent, omitted }
    }

    fn whole(&self, text: &str) -> String {
        self.show(text.as_bytes().to_vec(), 0, 0, Ending::Final).text
    }

    /// What secrets cover: sorted, and apart from each other, as those that touch show as one.
    fn covered(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        let Some(engines) = &self.engines else { return runs };
        if !engines.any.is_match(bytes) {
            return runs;
        }
        // They come sorted by their ends; a long one may reach back over several.
        for found in engines.all.find_overlapping_iter(bytes) {
            let mut range = found.range();
            while let Some(last) = runs.pop_if(|last| range.start <= last.end) {
                range.start = range.start.min(last.start);
            }
            runs.push(range);
        }
        runs
    }

    /// Where the end begins that could be the beginning of a secret; the length if there is none.
    fn tail(&self, bytes: &[u8]) -> usize {
        let first = bytes.len().saturating_sub(self.longest.saturating_sub(1));
        let end = bytes.get(first..).unwrap_or_default();
        let could = |at: usize| {
            let rest = end.get(at..).unwrap_or_default();
            let begins = rest.first().is_some_and(|byte| self.begins.get(usize::from(*byte)) == Some(&true));
            begins && {
                // Sorted, so whatever begins with `rest` stands right behind it.
                let place = self.patterns.partition_point(|pattern| pattern.as_slice() <= rest);
                self.patterns.get(place).is_some_and(|pattern| pattern.starts_with(rest))
            }
        };
        first + (0..end.len()).find(|at| could(*at)).unwrap_or(end.len())
    }
}

/// Adds a run that reaches to the end of the bytes.
fn cover(covered: &mut Vec<Range<usize>>, mut tail: Range<usize>) {
    while let Some(last) = covered.pop_if(|last| tail.start <= last.end) {
        tail.start = tail.start.min(last.start);
    }
    covered.push(tail);
}

/// The text of a range, and the place right behind its last newline that is not covered.
fn replace(bytes: &[u8], range: Range<usize>, covered: &[Range<usize>]) -> (String, Option<usize>) {
    let last_newline = |clear: Range<usize>| {
        let found = bytes.get(clear.clone())?.iter().rposition(|byte| *byte == b'\n')?;
        Some(clear.start + found + 1)
    };
    let touching = covered.iter().filter(|run| run.end > range.start && run.start < range.end);
    let mut text = String::new();
    let mut newline = None;
    let mut at = range.start;
    let mut clear = |clear: Range<usize>, text: &mut String| {
        newline = last_newline(clear.clone()).or(newline);
        text.push_str(&String::from_utf8_lossy(bytes.get(clear).unwrap_or_default()));
    };
    for run in touching {
        clear(at..run.start.max(at), &mut text);
        // What began before the range was shown as masked there.
        if run.start >= range.start {
            text.push_str(MASK);
        }
        at = run.end.min(range.end);
    }
    clear(at..range.end, &mut text);
    (text, newline)
}

/// How many bytes at the end are the beginning of a character whose rest is missing.
pub(super) fn cut_character(bytes: &[u8]) -> usize {
    let tail = bytes.get(bytes.len().saturating_sub(3)..).unwrap_or_default();
    let needed = |byte: u8| match byte {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => 1,
    };
    let lead = tail.iter().rposition(|byte| byte & 0xC0 != 0x80);
    let Some(lead) = lead else { return 0 };
    let have = tail.len() - lead;
    let begun = tail.get(lead).is_some_and(|byte| have < needed(*byte));
    // Only what may still become a character: the rest of it may be wrong already.
    let may = tail.get(lead..).is_some_and(|part| {
        std::str::from_utf8(part).is_err_and(|failure| failure.valid_up_to() == 0 && failure.error_len().is_none())
    });
    if begun && may { have } else { 0 }
}

/// The forms in which a value can show up.
fn forms(value: &str) -> Vec<Vec<u8>> {
    let mut plain = vec![value.to_owned()];
    if let Ok(decoded) = percent_decode_str(value).decode_utf8() {
        plain.push(decoded.into_owned());
    }
    // Credentials are a name and a password; the password is a secret by itself.
    let passwords: Vec<String> =
        plain.iter().filter_map(|text| text.split_once(':')).map(|(_, password)| password.to_owned()).collect();
    plain.extend(passwords);
    plain.retain(|text| text.len() >= SHORTEST);
    let mut forms = Vec::new();
    for text in plain {
        forms.extend(base64_forms(text.as_bytes()));
        forms.extend(url_forms(&text));
        if let Ok(quoted) = serde_json::to_string(&text) {
            forms.push(quoted.trim_start_matches('"').as_bytes().split_last().map_or(Vec::new(), |(_, l)| l.to_vec()));
        }
        forms.push(text.into_bytes());
    }
    forms
}

/// In a URL it shows up by what the program that made it takes for harmless, how that writes a space, and its digits.
fn url_forms(value: &str) -> BTreeSet<Vec<u8>> {
    let mut forms = BTreeSet::new();
    for escaped in [NON_ALPHANUMERIC, UNRESERVED, COMPONENT] {
        let upper: Vec<&str> = utf8_percent_encode(value, escaped).collect();
        let lower =
            upper.iter().map(|part| if part.starts_with('%') { part.to_ascii_lowercase() } else { (*part).to_owned() });
        for form in [upper.concat(), lower.collect()] {
            forms.insert(form.replace("%20", "+").into_bytes());
            forms.insert(form.into_bytes());
        }
    }
    forms
}

/// In base64 a value shows up in three ways, by where it stands in what was encoded. The characters at both
/// ends bear bits of its neighbours and are left out.
fn base64_forms(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for shift in 0..3_usize {
        let mut padded = vec![0_u8; shift];
        padded.extend(value);
        let first = (shift * 8).div_ceil(6);
        let last = padded.len() * 8 / 6;
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let text = engine.encode(&padded);
            forms.extend(text.get(first..last).map(|text| text.as_bytes().to_vec()));
        }
    }
    forms
}

fn pieces(form: &[u8]) -> Vec<Vec<u8>> {
    let pieces = form.chunks(LONGEST).filter(|piece| piece.len() >= SHORTEST);
    pieces.map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masker(secrets: &[&str]) -> Masker {
        Masker::new(secrets.iter().copied())
    }

    /// Shows a text in pieces, as a reader does that is given one piece more at a time.
    fn in_pieces(masker: &Masker, text: &[u8], cuts: &[usize]) -> String {
        let mut shown = String::new();
        let mut at = 0;
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
        ends.sort_unstable();
        ends.push(text.len());
        for (n, end) in ends.iter().enumerate() {
            let before = at.min(masker.memory());
            let bytes = text.get(at - before..*end.max(&at)).expect("a piece").to_vec();
            let ending = if n + 1 == ends.len() { Ending::Final } else { Ending::Open };
            let piece = masker.show(bytes, before, 0, ending);
            at += piece.used;
            shown.push_str(&piece.text);
        }
        assert_eq!(at, text.len());
        shown
    }

    proptest! {
        #[test]
        fn pieces_show_what_the_whole_shows(
            text in prop::collection::vec(prop::sample::select(b"aabbcdefgh\n\xe2\x82\xac\xff".to_vec()), 0..200),
            secrets in prop::collection::vec("[abcdefgh]{8,12}", 0..3),
            places in prop::collection::vec((0..200_usize, 0..3_usize), 0..6),
            cuts in prop::collection::vec(0..200_usize, 0..8),
        ) {
            let mut text = text;
            for (place, which) in places {
                if let Some(secret) = secrets.get(which) {
                    let place = place.min(text.len());
                    text.splice(place..place, secret.bytes());
                }
            }
            let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
            let masker = masker(&secrets);
            let whole = masker.show(text.clone(), 0, 0, Ending::Final).text;
            for secret in &secrets {
                prop_assert!(!whole.contains(secret));
            }
            prop_assert_eq!(in_pieces(&masker, &text, &cuts), whole);
        }

        #[test]
        fn a_secret_is_found_in_all_its_forms(
            secret in "[!-~]{8,40}",
            before in prop::collection::vec(any::<u8>(), 0..4),
            after in prop::collection::vec(any::<u8>(), 0..4),
        ) {
            let masker = masker(&[&secret]);
            let raw = [before.as_slice(), secret.as_bytes(), &after].concat();
            for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
                prop_assert!(masker.whole(&engine.encode(&raw)).contains(MASK));
            }
            let json = serde_json::to_string(&format!("x{secret}y")).expect("text");
            prop_assert_eq!(masker.whole(&json), "\"x***y\"");
            let url = utf8_percent_encode(&secret, NON_ALPHANUMERIC).to_string();
            prop_assert_eq!(masker.whole(&url), MASK);
        }
    }

    #[test]
    fn the_last_newline_is_one_that_is_shown() {
        let masker = masker(&["-----BEGIN\nKEY-----"]);
        let shown = masker.show(b"one\ntwo -----BEGIN\nKEY----- three".to_vec(), 0, 0, Ending::Final);
        assert_eq!((shown.text.as_str(), shown.line_end), ("one\ntwo *** three", Some(4)));
        let shown = masker.show(b"one\ntwo\nthree".to_vec(), 4, 0, Ending::Final);
        assert_eq!((shown.text.as_str(), shown.line_end), ("two\nthree", Some(4)));
    }

    #[test]
    fn what_is_interrupted_is_masked_and_its_rest_too() {
        let masker = masker(&["s3cret-token"]);
        let first = masker.show(b"a s3cret".to_vec(), 0, 0, Ending::Broken);
        assert_eq!((first.text.as_str(), first.used), ("a ***", 8));
        let rest = masker.show(b"a s3cret-token b".to_vec(), 8, 0, Ending::Final);
        assert_eq!(rest.text, " b");
    }

    #[test]
    fn a_secret_is_found_however_a_url_shows_it() {
        let masker = masker(&["a-secret!? (of/many) signs_"]);
        for url in [
            "a-secret!%3F%20(of%2Fmany)%20signs_",
            "a-secret%21%3F%20%28of%2Fmany%29%20signs_",
            "a-secret%21%3f%20%28of%2fmany%29%20signs_",
            "a-secret!%3F+(of%2Fmany)+signs_",
            "a%2Dsecret%21%3F%20%28of%2Fmany%29%20signs%5F",
        ] {
            assert_eq!(masker.whole(&format!("?q={url}&x")), "?q=***&x");
        }
    }

    #[test]
    fn passwords_of_credentials_and_short_values() {
        let secrets = Secrets::default();
        secrets.set(SecretId::DaemonKey, "ada:p%40ssword!");
        secrets.add("short");
        assert_eq!(secrets.masked("p@ssword! p%40ssword! ada short"), "*** *** ada short");
        assert_eq!(secrets.get(SecretId::DaemonKey).as_deref(), Some("ada:p%40ssword!"));
    }

    #[test]
    fn values_that_change_are_followed() {
        let secrets = Secrets::default();
        secrets.set(SecretId::DaemonKey, "first-value");
        secrets.set(SecretId::DaemonKey, "other-value");
        assert_eq!(secrets.masked("other-value"), MASK);
    }
}
