//! The second half of every run: the server and some of the machines are healed, the others never come back. What the
//! healed ones have must come to its end.

use std::collections::BTreeSet;

use makima_control::hub::Input;
use makima_core::id::TaskId;
use makima_core::task::Status;
use uuid::Uuid;

use super::{Act, Fleet, name};
use crate::holds;
use crate::world::{self, TASKS, task_id};

impl Fleet {
    /// Heals the server and the machines whose bit is set, or the first where none is, and lets them run until everything
    /// has come to its end that can.
    ///
    /// # Panics
    /// Where it does not get there.
    pub fn settle(&mut self, core: u8) {
        let all = 0..self.machines.len();
        let mut core: Vec<usize> = all.filter(|n| core >> n & 1 == 1).collect();
        if core.is_empty() {
            core.push(0);
        }
        // Whoever was not told that a task is kept asks again.
        for task in 0..TASKS {
            if let Some(asked) = self.asked[usize::from(task)].filter(|asked| !asked.kept) {
                self.create(task, asked);
            }
        }
        for _ in 0..60_000 {
            if self.is_settled(&core) {
                return self.check_end();
            }
            for n in &core {
                self.mend(*n);
            }
            let progress = self.apply(Act::Write)
                || core.iter().any(|n| self.goes_on(*n))
                || core.iter().any(|n| self.resumes(*n))
                || core.iter().any(|n| self.interrupts(*n))
                || self.advance_these(&core);
            assert!(progress, "nothing is left to happen, and the fleet has not settled: {}", self.describe(&core));
        }
        panic!("the fleet does not settle: {}", self.describe(&core));
    }

    /// A daemon that was told to stop is started again some day, and a disk that was full is not any more.
    fn mend(&mut self, n: usize) {
        if self.machines[n].exit.is_some() {
            self.at(n, world::Act::Kill { done: u8::MAX, journal: u8::MAX, other: false });
        }
        if self.machines[n].is_in_trouble() {
            self.at(n, world::Act::Trouble);
        }
    }

    fn goes_on(&mut self, n: usize) -> bool {
        let machine = &mut self.machines[n];
        let ending = machine.machine.ending().first().copied();
        let went = machine.goes_on() || ending.is_some_and(|task| machine.machine.exit(task, 0));
        self.take_news(n);
        went
    }

    /// Whether nothing is on its way between the server and a machine.
    fn is_quiet(&self, n: usize) -> bool {
        self.server.is_written() && self.machines[n].server.is_quiet() && self.machines[n].is_linked()
    }

    /// Somebody lets go on what stands still.
    fn resumes(&mut self, n: usize) -> bool {
        let paused = self.machines[n].daemon.statuses().find(|(_, status)| *status == Status::Paused);
        let Some((task, _)) = paused.filter(|_| self.is_quiet(n)) else { return false };
        let before = self.server.kept.tasks.iter().find(|kept| kept.id == task.0).and_then(|kept| kept.hold);
        // Where that was wished already it is on its way to be so.
        before != Some(false) && self.is_done(Input::Hold { task: task.0, paused: false })
    }

    /// Stubborn agents have to be killed: somebody asks for it.
    fn interrupts(&mut self, n: usize) -> bool {
        let running = self.machines[n].machine.running();
        let statuses: Vec<_> = self.machines[n].daemon.statuses().collect();
        let stubborn = statuses.iter().find(|(id, status)| *status == Status::Running && running.contains(id));
        let Some((task, _)) = stubborn.copied().filter(|_| self.is_quiet(n)) else { return false };
        let kept = self.server.kept.tasks.iter().find(|kept| kept.id == task.0);
        let asked = kept.is_none_or(|kept| kept.interrupt == Some(true));
        !asked && self.is_done(Input::Interrupt { task: task.0, graceful: false })
    }

    fn advance_these(&mut self, core: &[usize]) -> bool {
        let due = core.iter().filter_map(|n| self.machines[*n].next_moment()).min();
        due.is_some_and(|due| self.go_to(due))
    }

    fn is_settled(&self, core: &[usize]) -> bool {
        let over = |n: &usize| {
            let machine = &self.machines[*n];
            let quiet = machine.server.is_quiet() && machine.is_linked();
            quiet && machine.daemon.untold() == 0 && machine.machine.is_idle()
        };
        let hopeless = self.hopeless(core);
        let ended = self.server.unfinished().all(|(task, _)| hopeless.contains(&task));
        let waits = self.server.questions.values().any(|task| self.is_held_by(core, *task));
        self.server.is_written() && ended && !waits && core.iter().all(over)
    }

    /// Whether one of these machines has a task.
    fn is_held_by(&self, core: &[usize], task: Uuid) -> bool {
        let kept = self.server.kept.tasks.iter().find(|kept| kept.id == task);
        let daemon = kept.and_then(|kept| kept.daemon);
        daemon.is_some_and(|daemon| core.iter().any(|n| self.server.machine_of(daemon) == name(*n)))
    }

    /// Tasks that will not end: a machine that does not come back has them, or what they need or come from.
    fn hopeless(&self, core: &[usize]) -> BTreeSet<TaskId> {
        let assigned = |id| self.server.kept.tasks.iter().any(|kept| kept.id == id && kept.daemon.is_some());
        let lost = |id: Uuid| assigned(id) && !self.is_held_by(core, id);
        let mut hopeless: BTreeSet<TaskId> =
            self.server.unfinished().filter(|(task, _)| lost(task.0)).map(|(task, _)| task).collect();
        loop {
            let before = hopeless.len();
            for kept in self.server.kept.tasks.iter().filter(|kept| kept.spawn.is_some() && kept.daemon.is_none()) {
                let relatives = kept.spawn.iter().filter_map(|spawn| spawn.parent_task_id);
                let needs_in_vain = kept.after.iter().any(|need| hopeless.contains(&TaskId(*need)));
                if needs_in_vain || relatives.into_iter().any(lost) {
                    hopeless.insert(TaskId(kept.id));
                }
            }
            if hopeless.len() == before {
                return hopeless;
            }
        }
    }

    /// What must hold once everything has come to its end.
    fn check_end(&self) {
        for task in 0..TASKS {
            if self.asked[usize::from(task)].is_some() {
                self.check_task(task_id(task));
            }
        }
    }

    fn check_task(&self, task: TaskId) {
        holds!(
            NothingLost,
            self.server.kept.tasks.iter().any(|kept| kept.id == task.0),
            "{task} was asked for, and is not there"
        );
        let folders = || self.machines.iter().filter_map(|machine| machine.machine.folder(task));
        let starts: u32 = folders().map(|folder| folder.starts).sum();
        holds!(EndsOnce, starts <= 1, "{task} was started {starts} times");
        holds!(
            EndsOnce,
            folders().filter(|folder| folder.spec.is_some()).count() <= 1,
            "{task} was taken on by two machines"
        );
        let Some(end) = self.server.ends.get(&task.0) else { return };
        assert!(end.success == end.error.is_none(), "{task} ended as {end:?}");
        assert!(self.machines.iter().all(|machine| machine.machine.is_work_kept(task)), "the work of {task} is lost");
        if let Some(written) = self.machines.iter().find_map(|machine| machine.machine.tokens(task)) {
            self.check_output(task, written);
        }
    }

    /// All that an agent wrote is there, in order; and once, where nothing of it went over version 1.
    fn check_output(&self, task: TaskId, written: [u32; 2]) {
        let text = self.server.text.get(&task.0).map_or("", String::as_str);
        let mut last = [0; 2];
        for token in text.split(['\n', ';']).filter(|token| !token.is_empty()) {
            let (stream, number) = match token.split_at_checked(1) {
                Some(("o", number)) => (0, number),
                Some(("e", number)) => (1, number),
                _ => panic!("{token:?} of {task} is no output of ours"),
            };
            let number: u32 = number.parse().unwrap_or_else(|_| panic!("{token:?} of {task} is no output of ours"));
            let next = number == last[stream] + 1 || (self.first && number <= last[stream]);
            holds!(OutputWhole, next, "output {token:?} of {task} came behind {}", last[stream]);
            last[stream] = last[stream].max(number);
        }
        holds!(OutputWhole, last == written, "{task} ended with {last:?} of its output {written:?}");
    }

    fn describe(&self, core: &[usize]) -> String {
        let hopeless = self.hopeless(core);
        let open: Vec<_> = self.server.unfinished().filter(|(task, _)| !hopeless.contains(task)).collect();
        let machines: Vec<String> = core.iter().map(|n| self.machines[*n].describe()).collect();
        format!("{open:?} of {core:?}: {machines:#?}")
    }
}
