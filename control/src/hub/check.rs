//! Whether the machine agrees with itself.

use super::Hub;
use super::task::Life;

impl Hub {
    /// Says where the machine contradicts itself. For tests.
    ///
    /// # Errors
    /// The first contradiction, in words.
    pub fn check(&self) -> Result<(), String> {
        for (id, task) in &self.tasks {
            let waits = self.waiting.get(&task.seq) == Some(id);
            let held = self.held_back.get(&task.seq) == Some(id);
            let holders = self.daemons.values().filter(|daemon| daemon.tasks.get(&task.seq) == Some(id)).count();
            let right = match &task.life {
                Life::Waiting { needs, .. } => waits == needs.is_empty() && waits != held && holders == 0,
                Life::Assigned { daemon, .. } => {
                    let here = self.daemons.get(daemon).is_some_and(|daemon| daemon.tasks.contains_key(&task.seq));
                    !waits && !held && holders == 1 && here
                }
                Life::Ended { .. } => !waits && !held && holders == 0,
            };
            if !right {
                return Err(format!("task {id}: waits {waits}, held by {holders}"));
            }
        }
        for (session, id) in &self.sessions {
            if self.daemons.get(id).is_none_or(|daemon| daemon.session.map(|open| open.id) != Some(*session)) {
                return Err(format!("session {} belongs to nobody", session.0));
            }
        }
        self.check_questions()?;
        self.check_trees()?;
        self.daemons.values().try_for_each(|daemon| Self::check_numbers(&daemon.numbers))?;
        let connected = self.daemons.values().filter(|daemon| daemon.session.is_some()).count();
        if connected != self.sessions.len() {
            return Err(format!("{connected} daemons connected over {} sessions", self.sessions.len()));
        }
        Ok(())
    }
}
