//! What agents print: numbered lines, at various paces.

use makima_core::rng::Rng;

/// The lines that an agent prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    pace: Pace,
    /// How many there are on each stream that it uses.
    pub count: u64,
    /// Stands in each of its lines and in nobody else's.
    pub token: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// A hundred lines at a time.
    Fast,
    /// A line now and then.
    Slow,
    /// Lines in two parts, with a pause in between.
    Parts,
    /// Lines on both streams in turn.
    Both,
    /// Reads what it is told between its lines, and minds if that ends.
    Listener,
    /// Commits what it does.
    Committer,
}

impl Lines {
    /// Any.
    pub fn draw(rng: &mut Rng) -> Self {
        use Pace::{Both, Committer, Fast, Listener, Parts, Slow};
        let (pace, count) = match rng.up_to(5) {
            0 => (Fast, 4_000 + rng.up_to(16_000)),
            1 => (Slow, 8 + rng.up_to(30)),
            2 => (Parts, 20 + rng.up_to(80)),
            3 => (Both, 40 + rng.up_to(150)),
            4 => (Listener, 20 + rng.up_to(50)),
            _ => (Committer, 20 + rng.up_to(60)),
        };
        Self { pace, count, token: format!("{:08x}", rng.up_to(0xffff_ffff)) }
    }

    /// A few on one stream, one after the other.
    #[must_use]
    pub fn plain(count: u64, token: &str) -> Self {
        Self { pace: Pace::Fast, count, token: token.to_owned() }
    }

    /// A few on both streams.
    #[must_use]
    pub fn both(count: u64, token: &str) -> Self {
        Self { pace: Pace::Both, count, token: token.to_owned() }
    }

    /// Whether its agent writes to its stderr as well.
    #[must_use]
    pub fn is_on_both(&self) -> bool {
        self.pace == Pace::Both
    }

    /// The `n`th line of a stream, without its newline.
    #[must_use]
    pub fn line(&self, stream: char, n: u64) -> String {
        format!("<{stream}:{n}:{}>", self.token)
    }

    /// Shell commands that print all of them; `i` counts. Whoever commits does so with `file`, and does `failed` where
    /// that cannot be done.
    #[must_use]
    pub fn script(&self, file: &str, failed: &str) -> String {
        let Self { pace, count, token } = self;
        let say = format!("i=$((i+1)); echo \"<o:$i:{token}>\"");
        let step = match pace {
            Pace::Fast => format!("{say}; [ $((i % 100)) -gt 0 ] || sleep 0.05"),
            Pace::Slow => format!("{say}; sleep 0.25"),
            Pace::Parts => format!("i=$((i+1)); printf \"<o:$i:\"; sleep 0.05; printf \"{token}>\\n\"; sleep 0.04"),
            Pace::Both => format!("{say}; echo \"<e:$i:{token}>\" >&2; sleep 0.04"),
            // That it was ended by `timeout` says that there was neither a word nor an end.
            Pace::Listener => format!("{say}; timeout 0.1 cat >&2; [ $? = 124 ] || exit 99"),
            Pace::Committer => format!(
                "{say}; sleep 0.1; {{ echo $i > {file} || {failed}
                 if [ $((i % 10)) = 0 ]; then git add {file} && git commit --allow-empty -qm \"step $i\" || {failed}; fi; }} > /dev/null 2>&1"
            ),
        };
        format!("i=0; while [ $i -lt {count} ]; do {step}; done")
    }
}

/// Shell commands that leave a process behind which does not want to end.
#[must_use]
pub fn left_behind() -> String {
    // In the portable way who leaves the agent's group gets away.
    let away = if portable() { "" } else { "setsid -f" };
    format!("{away} sh -c 'trap \"\" TERM INT HUP; sleep 86397' > /dev/null 2>&1 &")
}

/// Whether the daemons of this run go the portable way.
#[must_use]
pub fn portable() -> bool {
    std::env::var("MAKIMA_PORTABLE").is_ok_and(|chosen| !["", "0", "false"].contains(&chosen.as_str()))
}
