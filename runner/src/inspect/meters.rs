//! What the driver counts beside the core.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use makima_core::effect::Work;
use makima_core::id::EffectId;
use makima_core::input::{Input, Outcome};
use makima_core::notice::Notice;

/// What the driver counts beside the core.
#[derive(Clone, Debug, Default)]
pub struct Meters {
    /// Steps of the core.
    pub steps: u64,
    /// Answers of the executor: to which work, and with which outcome.
    pub answers: BTreeMap<(&'static str, &'static str), u64>,
    /// How long work took, from when it was asked for.
    pub took: BTreeMap<&'static str, Duration>,
    /// Since when the link has been as it is, in milliseconds since 1970.
    pub link_since: Option<u64>,
    /// The server's newest word on the key was a refusal.
    pub key_refused: bool,
    /// What was last said about the link, where that was not good.
    pub trouble: Option<String>,
    /// Work that is not answered yet. The core bounds how much that is.
    under_way: BTreeMap<EffectId, (Instant, &'static str)>,
}

impl Meters {
    /// Work is about to be done.
    pub(crate) fn began(&mut self, id: EffectId, work: &Work) {
        self.under_way.insert(id, (Instant::now(), name(work)));
    }

    /// The executor has said something.
    pub(crate) fn answered(&mut self, input: &Input) {
        let Input::Done { id, outcome } = input else { return };
        let Some((began, work)) = self.under_way.remove(id) else { return };
        let answers = self.answers.entry((work, kind(outcome))).or_insert(0);
        *answers = answers.saturating_add(1);
        let took = self.took.entry(work).or_default();
        *took = took.saturating_add(began.elapsed());
    }

    /// The core has said something; `text` says it without secrets.
    pub(crate) fn noticed(&mut self, notice: &Notice, text: &str) {
        let (is_refused, is_linked) = match notice {
            Notice::Linked { .. } => (false, true),
            Notice::KeyRefused { .. } => (true, false),
            Notice::LinkLost { .. } | Notice::Silent { .. } => (self.key_refused, false),
            Notice::ServerError { .. }
            | Notice::Slept { .. }
            | Notice::NoPongs
            | Notice::TurnsToPolling
            | Notice::Misbehaved { .. }
            | Notice::NotGone { .. }
            | Notice::NoMoreRoom { .. }
            | Notice::Needs { .. }
            | Notice::Ended { .. }
            | Notice::Task { .. } => return,
        };
        let was_linked = self.link_since.is_some() && self.trouble.is_none();
        if self.link_since.is_none() || was_linked != is_linked {
            self.link_since = Some(crate::clock::now().unix.0);
        }
        self.key_refused = is_refused;
        self.trouble = (!is_linked).then(|| text.to_owned());
    }
}

const fn name(work: &Work) -> &'static str {
    match work {
        Work::Accept { .. } => "accept",
        Work::Prepare(_) => "prepare",
        Work::Start(_) => "start",
        Work::Read { .. } => "read",
        Work::Attach => "attach",
        Work::Stdin { .. } => "stdin",
        Work::Signal { .. } => "signal",
        Work::Empty => "empty",
        Work::Commit(_) => "commit",
        Work::Freeze => "freeze",
        Work::Thaw => "thaw",
        Work::Measure => "measure",
        Work::MakeKey => "make_key",
        Work::Check(_) => "check",
        Work::Merge(_) => "merge",
        Work::Deliver(_) => "deliver",
        Work::Clone { .. } => "clone",
        Work::Look { .. } => "look",
        Work::Conclude { .. } => "conclude",
        Work::Delivered { .. } => "delivered",
        Work::Close => "close",
        Work::Discard => "discard",
        Work::Forget => "forget",
        Work::Expire { .. } => "expire",
        Work::Weigh { .. } => "weigh",
        Work::Spare => "spare",
        Work::Purge => "purge",
    }
}

const fn kind(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Failed(_) => "failed",
        Outcome::NoRoom(_) => "no_room",
        Outcome::Done
        | Outcome::Prepared(_)
        | Outcome::Started { .. }
        | Outcome::NotStarted
        | Outcome::Chunk(_)
        | Outcome::Emptied { .. }
        | Outcome::Committed(_)
        | Outcome::Key(_)
        | Outcome::Checked { .. }
        | Outcome::Branches { .. }
        | Outcome::Merging(_)
        | Outcome::Cloned { .. }
        | Outcome::Looked { .. }
        | Outcome::Measured { .. }
        | Outcome::Weighed(_)
        | Outcome::Delivered { .. } => "done",
    }
}
