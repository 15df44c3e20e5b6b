//! The agents: shell scripts that print numbered lines at various paces, and say themselves that they were started.

use std::path::Path;

use makima_core::rng::Rng;

use super::plan::one_in;

/// What an agent does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agent {
    kind: Kind,
    /// Lines of each stream that it uses.
    pub(crate) lines: u64,
    /// Stands in each of its lines and in nobody else's.
    pub(crate) token: String,
    /// What it ends with.
    pub(crate) code: i32,
    /// It leaves a process behind that does not want to end.
    leaves: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
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

impl Agent {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        use Kind::{Both, Committer, Fast, Listener, Parts, Slow};
        let (kind, steps) = match rng.up_to(5) {
            0 => (Fast, 4_000 + rng.up_to(16_000)),
            1 => (Slow, 8 + rng.up_to(30)),
            2 => (Parts, 20 + rng.up_to(80)),
            3 => (Both, 40 + rng.up_to(150)),
            4 => (Listener, 20 + rng.up_to(50)),
            _ => (Committer, 20 + rng.up_to(60)),
        };
        let code = if one_in(rng, 3) { 1 + rng.up_to(60) as i32 } else { 0 };
        Self { kind, lines: steps, token: format!("{:08x}", rng.up_to(0xffff_ffff)), code, leaves: one_in(rng, 4) }
    }

    /// Whether it writes to its stderr as well.
    pub(crate) fn is_on_both(&self) -> bool {
        self.kind == Kind::Both
    }

    /// The `n`th line of a stream, without its newline.
    pub(crate) fn line(&self, stream: char, n: u64) -> String {
        format!("<{stream}:{n}:{}>", self.token)
    }

    /// Its script. `marks` is the folder in which it says that it was started, in a file of its own.
    pub(crate) fn script(&self, marks: &Path) -> String {
        let Self { kind, lines, token, code, leaves } = self;
        let marks = marks.display();
        let say = format!("i=$((i+1)); echo \"<o:$i:{token}>\"");
        let step = match kind {
            Kind::Fast => format!("{say}; [ $((i % 100)) -gt 0 ] || sleep 0.05"),
            Kind::Slow => format!("{say}; sleep 0.25"),
            Kind::Parts => format!("i=$((i+1)); printf \"<o:$i:\"; sleep 0.05; printf \"{token}>\\n\"; sleep 0.04"),
            Kind::Both => format!("{say}; echo \"<e:$i:{token}>\" >&2; sleep 0.04"),
            // That it was ended by `timeout` says that there was neither a word nor an end.
            Kind::Listener => format!("{say}; timeout 0.1 cat >&2; [ $? = 124 ] || exit 99"),
            Kind::Committer => format!(
                "{say}; echo $i > progress; sleep 0.1
                 if [ $((i % 10)) = 0 ]; then git add progress; git commit -qm \"step $i\"; fi"
            ),
        };
        // In the portable way who leaves the agent's group gets away.
        let away = if portable() { "" } else { "setsid -f" };
        let left = format!("{away} sh -c 'trap \"\" TERM INT HUP; sleep 86397' > /dev/null 2>&1 &");
        let leave = if *leaves { left.as_str() } else { ":;" };
        format!(
            "echo \"started $$\" >> '{marks}'/$MAKIMA_TASK_ID; {leave}
             i=0; while [ $i -lt {lines} ]; do {step}; done
             echo \"{token} $i\" > progress; exit {code}"
        )
    }

    /// What it leaves in its file `progress`.
    pub(crate) fn work(&self) -> String {
        format!("{} {}", self.token, self.lines)
    }
}

/// Whether the daemons of this run go the portable way.
fn portable() -> bool {
    std::env::var("MAKIMA_PORTABLE").is_ok_and(|chosen| !["", "0", "false"].contains(&chosen.as_str()))
}
