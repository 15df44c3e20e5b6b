//! The machine of the simulated world keeps the executor's contracts.

use std::collections::{BTreeMap, BTreeSet};

use makima_core::effect::Work;
use makima_core::id::{EffectId, TaskId};
use makima_core::input::{ExitStatus, Input, Leftover, Outcome};
use makima_tests::contracts::{Agent, Subject, all, keep, kinds};
use makima_tests::world::{Machine, TaskKind, Temper};

#[derive(Default)]
struct Model {
    machine: Machine,
    n: u64,
    cast: BTreeMap<TaskId, Agent>,
    /// Who was started or found by an effect.
    agents: BTreeMap<EffectId, TaskId>,
    kinds: BTreeMap<TaskId, TaskKind>,
}

impl Model {
    fn perform(&mut self, id: EffectId) -> Option<Input> {
        let kinds = &self.kinds;
        self.machine.perform(id, false, |task| kinds.get(&task).copied().unwrap_or(kind(Agent::Ends(0))))
    }
}

const fn kind(agent: Agent) -> TaskKind {
    let changes = matches!(agent, Agent::Writes(_));
    TaskKind {
        local: true,
        branch: true,
        changes,
        subtask: false,
        orchestrator: false,
        checks: false,
        continues: false,
        temper: Temper::Mild,
    }
}

impl Subject for Model {
    fn ask(&mut self, task: TaskId, work: Work) -> EffectId {
        self.n += 1;
        let id = EffectId { incarnation: 1, n: self.n };
        let starts = matches!(work, Work::Start(_));
        if starts || matches!(work, Work::Attach) {
            self.agents.insert(id, task);
        }
        self.machine.take(id, task, work);
        id
    }

    fn answer(&mut self, id: EffectId) -> Outcome {
        let Some(Input::Done { outcome, .. }) = self.perform(id) else { panic!("{id} is not answered") };
        if let Some(task) = self.agents.get(&id).copied()
            && matches!(outcome, Outcome::Started { .. })
        {
            self.machine.write(task, false, true);
        }
        outcome
    }

    fn exit(&mut self, id: EffectId) -> ExitStatus {
        let task = self.agents[&id];
        let code = match self.cast[&task] {
            Agent::Ends(code) => code,
            Agent::Writes(_) | Agent::Works => 0,
        };
        self.machine.exit(task, code);
        let Some(Input::Exited { status, .. }) = self.perform(id) else { panic!("the agent of {task} does not end") };
        status
    }

    fn cancel(&mut self, id: EffectId) {
        self.machine.cancel(id);
    }

    fn casts(&mut self, task: TaskId, agent: Agent) {
        self.cast.insert(task, agent);
        self.kinds.insert(task, kind(agent));
        if let Agent::Writes(text) = agent {
            self.machine.writes(task, text);
        }
    }

    fn crash(&mut self) {
        let kinds = &self.kinds;
        self.machine.kill_daemon(0, |task| kinds.get(&task).copied().unwrap_or(kind(Agent::Ends(0))));
    }

    fn leftovers(&mut self) -> Vec<Leftover> {
        self.machine.leftovers()
    }

    fn repository(&self) -> String {
        "/repository".to_owned()
    }

    fn beside(&self) -> String {
        "/beside".to_owned()
    }
}

#[test]
fn the_model_keeps_every_contract() {
    let mut asked = BTreeSet::new();
    for contract in all() {
        println!("{}", contract.0);
        asked.extend(keep(&mut Model::default(), contract));
    }
    assert_eq!(asked, kinds());
}
