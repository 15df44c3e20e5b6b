//! The executor keeps the contracts that the simulated world's machine keeps.

use std::collections::{BTreeMap, BTreeSet};

use makima_core::effect::Work;
use makima_core::id::{EffectId, TaskId};
use makima_core::input::{ExitStatus, Leftover, Outcome};
use makima_runner::executor::leftovers;
use makima_tests::contracts::{Agent, Subject, all, keep, kinds};
use tokio::runtime::Runtime;

use crate::support::{World, git};

struct Real {
    runtime: Runtime,
    world: Option<World>,
    repository: String,
}

impl Real {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let world = runtime.block_on(async { World::new() });
        let repository = world.repository("upstream");
        git(&repository, &["tag", "first"]);
        let repository = repository.display().to_string();
        Self { runtime, world: Some(world), repository }
    }

    fn world(&mut self) -> &mut World {
        self.world.as_mut().unwrap()
    }
}

impl Subject for Real {
    fn ask(&mut self, task: TaskId, work: Work) -> EffectId {
        let _inside = self.runtime.enter();
        self.world.as_mut().unwrap().ask(task, work)
    }

    fn answer(&mut self, id: EffectId) -> Outcome {
        self.runtime.block_on(self.world.as_mut().unwrap().answer(id))
    }

    fn exit(&mut self, id: EffectId) -> ExitStatus {
        self.runtime.block_on(self.world.as_mut().unwrap().exit(id))
    }

    fn cancel(&mut self, id: EffectId) {
        let _inside = self.runtime.enter();
        self.world.as_mut().unwrap().executor.cancel(id);
    }

    fn casts(&mut self, _: TaskId, _: Agent) {}

    fn crash(&mut self) {
        let world = self.world.take().unwrap();
        self.world = Some(self.runtime.block_on(async { world.again() }));
    }

    fn leftovers(&mut self) -> Vec<Leftover> {
        let found = leftovers(&self.world().home).unwrap();
        assert!(found.unreadable.is_empty());
        found.tasks
    }

    fn repository(&self) -> String {
        self.repository.clone()
    }

    fn beside(&self) -> String {
        self.world.as_ref().unwrap().path("beside").display().to_string()
    }
}

#[test]
fn the_executor_keeps_every_contract() {
    let mut asked = BTreeSet::new();
    let mut broken = BTreeMap::new();
    for contract in all() {
        let kept = std::panic::catch_unwind(|| keep(&mut Real::new(), contract));
        match kept {
            Ok(kinds) => asked.extend(kinds),
            Err(_) => drop(broken.insert(contract.0, ())),
        }
    }
    assert!(broken.is_empty(), "not kept: {:?}", broken.keys().collect::<Vec<_>>());
    assert_eq!(asked, kinds());
}
