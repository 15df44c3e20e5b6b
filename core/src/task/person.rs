//! A task and the person that it needs: what for, and what that one answers.

use alloc::format;
use alloc::string::String;

use super::dialog::{Dialog, inner};
use super::phase::Phase;
use super::spec::{End, Status};
use super::{Surroundings, Task};
use crate::agent::Answer;
use crate::effect::Effect;
use crate::notice::Notice;
use crate::outbox::Report;

impl Phase {
    /// The dialog with its agent, where that is at work as far as is known.
    pub(super) fn dialog(&mut self) -> Option<&mut Dialog> {
        match self {
            Self::Running(state) => state.dialog(),
            Self::Attaching(state) => state.dialog(),
            Self::Pending(_)
            | Self::Preparing(_)
            | Self::Keying(_)
            | Self::Held
            | Self::Starting(_)
            | Self::Finishing(_)
            | Self::Concluding(_)
            | Self::Ended(_) => None,
        }
    }
}

impl Task {
    /// A person has answered what its agent has asked.
    pub(super) fn answered_by_a_person(&mut self, answer: &Answer, s: &mut Surroundings<'_>) {
        let (old, was_ended) = (self.phase.status(), self.has_ended());
        let (phase, heard) = self.within(s, |mut phase, _, cx| {
            let heard = phase.dialog().map(|dialog| dialog.answer(answer, cx)).is_some();
            (phase, heard)
        });
        self.phase = phase;
        if !heard {
            return self.inapplicable(Some("its agent waits for no answer"), s);
        }
        self.changed(old, was_ended, s);
    }

    /// People are told what it needs one for, where that is news.
    pub(super) fn tell_needs(&mut self, s: &mut Surroundings<'_>) {
        if let Some(session) = self.phase.dialog().and_then(|dialog| dialog.session()) {
            self.session = Some(session.into());
        }
        let folder = format!("{}/{}", s.worktrees, self.spec.id);
        let over = self.meter.over().map(Into::into);
        let needs = over.or_else(|| self.phase.dialog().and_then(|dialog| dialog.needs()));
        let needs = needs.or_else(|| self.errands.needs());
        let needs = needs.map(|needs| inner(&needs, &folder));
        if needs == self.needs {
            return;
        }
        self.needs.clone_from(&needs);
        let (task, name) = (self.spec.id, self.spec.name.clone());
        self.within_phase(s, |cx| {
            cx.out.push(Effect::Tell(Notice::Needs { task, name, what: needs.clone() }));
            cx.report(Report::Needs(needs), 0);
        });
    }

    /// It may have ended just now.
    pub(super) fn tell_people_of_the_end(&mut self, s: &mut Surroundings<'_>) {
        let Phase::Ended(End { status, error, .. }) = &self.phase else { return };
        let (task, name, error) = (self.spec.id, self.spec.name.clone(), error.clone());
        let status = Status::from(*status).as_str();
        s.out.push(Effect::Tell(Notice::Ended { task, name, status, error }));
    }

    /// What it needs a person for.
    pub(super) fn needs(&self) -> Option<String> {
        self.needs.clone()
    }
}
