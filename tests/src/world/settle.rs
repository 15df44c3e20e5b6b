//! The second half of every run: the system is healed, and what was begun must come to its end.

use makima_core::id::TaskId;
use makima_core::protocol::{DaemonCommand, InterruptTask, ResumeTask, SendMessage, TaskComplete};
use makima_core::task::Status;
use makima_core::view::TaskState;

use super::speaker::Speaker;
use super::{Act, Far, GOES_ON, TASKS, World, task_id};
use crate::holds;

impl World {
    /// Heals the system and lets it run until everything that was begun has come to its end.
    ///
    /// # Panics
    /// Where it does not get there.
    pub fn settle(&mut self) {
        for _ in 0..20_000 {
            // What is on its way gets there first.
            while self.is_settled() && self.goes_on() {}
            if self.is_settled() {
                self.check_end();
                // Months take a while here too. And what is on its way to the daemon, or will be, may begin something new.
                if self.steps.is_multiple_of(4) && self.server.is_quiet() && self.server.to_ask_again().is_empty() {
                    self.check_forgotten();
                }
                return;
            }
            // A daemon that was told to stop is started again some day.
            if self.exit.is_some() {
                self.kill(u8::MAX, None, u8::MAX, false);
            }
            if self.journal.is_in_trouble() {
                self.apply(Act::Trouble);
            }
            let progress = self.goes_on()
                || self.machine.speak()
                || self.machine.ending().first().copied().is_some_and(|task| self.machine.exit(task, 0))
                || self.resume_paused()
                || self.answer_people()
                || self.interrupt_stubborn()
                || self.apply(Act::Advance);
            assert!(progress, "nothing is left to happen, and the system has not settled: {}", self.describe());
        }
        panic!("the system does not settle: {}", self.describe());
    }

    /// Somebody lets go on what stands still. Once in a while: what shows as paused may only wait for its end.
    fn resume_paused(&mut self) -> bool {
        if self.resumed == Some(self.now.mono) {
            return false;
        }
        let paused = self.daemon.statuses().find(|(_, status)| *status == Status::Paused);
        let Some((task, _)) = paused.filter(|_| self.server.is_quiet()) else { return false };
        self.server.say(ResumeTask { task_id: task.0 });
        self.resumed = Some(self.now.mono);
        true
    }

    /// People answer what agents ask. Once in a while: what they answered may be on its way.
    fn answer_people(&mut self) -> bool {
        if self.answered == Some(self.now.mono) || !self.server.is_quiet() {
            return false;
        }
        let answers: Vec<(TaskId, String)> = (0..TASKS)
            .filter_map(|task| Some((task_id(task), self.answer_of_a_person(task)?)))
            .filter(|(task, _)| self.server.end(*task).is_none())
            .collect();
        self.answered = Some(self.now.mono);
        for (task, message) in &answers {
            self.server.say(SendMessage { task_id: task.0, message: message.clone() });
        }
        !answers.is_empty()
    }

    /// Stubborn agents have to be killed: somebody asks for it.
    fn interrupt_stubborn(&mut self) -> bool {
        // Whoever was asked to end is seen to by the daemon.
        let waits = |task: &TaskId| self.machine.is_stubborn(*task) && !self.is_interrupted(*task);
        let stubborn = self.daemon.statuses().find(|(id, status)| *status == Status::Running && waits(id));
        let Some((task, _)) = stubborn.filter(|_| self.server.is_quiet()) else {
            return false;
        };
        self.server.say(InterruptTask { task_id: task.0, graceful: false });
        true
    }

    /// Whether everything that was begun has come to its end.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        // What costs least first.
        self.daemon.untold() == 0
            && self.server.numbers.orders.is_empty()
            && self.machine.is_idle()
            && self.server.accepted().all(|task| self.server.end(task).is_some())
            && self.server.unheard_of().is_none()
    }

    /// What must hold once everything has come to its end.
    fn check_end(&self) {
        self.check_trusted();
        for task in self.server.accepted() {
            let (success, error) = self.server.end(task).expect("every task that was taken on has ended");
            let folder = self.machine.folder(task).expect("a task that was taken on has a folder");
            holds!(EndsOnce, folder.starts <= 1, "{task} was started {} times", folder.starts);
            holds!(WrittenFirst, self.machine.is_work_kept(task), "the work of {task} is lost");
            assert!(*success == error.is_none(), "{task} ended with success {success} and error {error:?}");
            // Nobody hears what is lost, or cannot be read.
            let heard = !folder.torn && folder.failed_reads == 0;
            // Nor is it done where a message still waited for it, or a subtask was at work.
            let more = ["all that it was told", "its subtasks had ended"];
            let has_more = |error: &String| more.iter().any(|end| error.ends_with(end));
            let by_itself = |error: &String| error.starts_with("the agent ended") && !has_more(error);
            let by_itself = error.as_ref().is_some_and(by_itself);
            let said = folder.speaker.as_ref().is_some_and(Speaker::has_said_all);
            holds!(
                AgentDecides,
                !(heard && by_itself && said),
                "{task} failed, and its agent did all: {:?}",
                folder.speaker
            );
            let done = folder.speaker.as_ref().is_none_or(Speaker::is_done);
            holds!(
                AgentDecides,
                !success || done,
                "{task} ended well, and its agent has not done all: {:?}",
                folder.speaker
            );
            let kind = self.kind(task);
            assert!(!kind.branch || self.server.knows_action(task), "nobody was told of {task}'s action");
            if *success && kind.branch && folder.committed && kind.local {
                assert!(folder.delivered_branch || folder.action_failed, "the branch of {task} was not delivered");
            }
        }
        for task in self.machine.running() {
            holds!(
                TreeEmpty,
                self.machine.folder(task).is_some_and(|folder| folder.unkillable),
                "the agent of {task} is left running"
            );
        }
    }
}

impl<F: Far> World<F> {
    /// How it stands, for people.
    pub(crate) fn describe(&self) -> String {
        let statuses: Vec<_> = self.daemon.statuses().map(|(id, status)| format!("{id} {status:?}")).collect();
        format!(
            "{statuses:?}, link {}, deadline {:?}, net {:?}",
            self.daemon.link_state(),
            self.daemon.deadline(),
            self.net
        )
    }

    /// Whatever can happen at this moment does.
    pub(crate) fn goes_on(&mut self) -> bool {
        GOES_ON.into_iter().any(|act| self.happen(act) == Some(true))
    }

    /// Whether a command is an interrupt that comes in time: where the agent has not ended yet, it decides how the task
    /// ends.
    pub(super) fn timely_interrupt(&self, command: &DaemonCommand) -> Option<TaskId> {
        let DaemonCommand::InterruptTask(body) = command else { return None };
        let in_time = |status| matches!(status, Status::Pending | Status::Preparing | Status::Running | Status::Paused);
        let task = TaskId(body.task_id);
        if self.machine.folder(task).is_some_and(|folder| folder.concluding) {
            return None;
        }
        self.daemon.statuses().any(|(id, status)| id == task && in_time(status)).then_some(task)
    }

    /// How many commands came that the daemon does not apply: from a connection that is gone, or once more.
    pub(super) const fn unheard(&self) -> u64 {
        let counters = self.daemon.counters();
        counters.stale_frames + counters.duplicate_commands
    }

    /// Whether somebody wanted it to end, as far as the daemon has to know.
    fn is_interrupted(&self, task: TaskId) -> bool {
        self.interrupted.get(&task) == Some(&self.incarnation)
    }

    /// The next life of the daemon has to know what this one was told: all of it is written down.
    pub(super) fn interrupts_outlast(&mut self) {
        let this = self.incarnation;
        self.interrupted.values_mut().filter(|life| **life == this).for_each(|life| *life += 1);
    }

    /// Which agents are being asked to end, and which subtasks are at work as that is settled.
    pub(super) fn see_ends(&mut self) {
        for task in (0..TASKS).map(task_id) {
            match self.daemon.task_at(task) {
                Some(TaskState::Ending) if !self.left.contains_key(&task) => {
                    // A script waits for nobody, and what an earlier life has settled this one only hears of.
                    let speaker = self.machine.folder(task).and_then(|folder| folder.speaker.as_ref());
                    let is_new = speaker.is_some_and(|speaker| !speaker.is_asked_to_end());
                    let subtask = self.subtask_at_work(task).filter(|_| is_new);
                    self.left.insert(task, subtask);
                }
                // The end of it is forgotten, in a life of the daemon that knows less.
                Some(TaskState::Running) => drop(self.left.remove(&task)),
                Some(_) | None => {}
            }
        }
    }

    /// A subtask that it leads and that has not ended, as far as the daemon knows.
    fn subtask_at_work(&self, task: TaskId) -> Option<TaskId> {
        let spec = |id: TaskId| self.machine.folder(id).and_then(|folder| folder.spec.as_ref());
        let leads = spec(task).is_some_and(|spec| spec.orchestrator);
        let is_its = |id: &TaskId| leads && spec(*id).is_some_and(|spec| spec.parent == Some(task));
        let mut known = self.daemon.statuses().filter(|(id, status)| !status.is_end() && is_its(id));
        known.next().map(|(id, _)| id)
    }

    /// Whoever has done all its work has left no subtask at work.
    pub(super) fn check_subtasks(&self, end: &TaskComplete) {
        let left = self.left.get(&TaskId(end.task_id)).copied().flatten().filter(|_| end.success);
        holds!(AgentDecides, left.is_none(), "{} has done its work, and left a subtask: {left:?}", end.task_id);
    }

    /// It was heeded, unless the daemon was killed before it could be.
    pub(super) fn check_interrupt(&self, end: &TaskComplete) {
        if self.is_interrupted(TaskId(end.task_id)) {
            let error = end.error.as_deref().unwrap_or("none");
            let other =
                ["not known to this daemon", "the task could not be written down", "this daemon is about to end"];
            let heeded = error == "interrupted" || other.iter().any(|other| error.starts_with(other));
            holds!(InOrder, heeded, "{} was interrupted and ended with the error `{error}`", end.task_id);
        }
    }
}
