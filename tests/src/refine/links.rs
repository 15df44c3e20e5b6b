//! Connections as a journal tells of them: what was asked for and sent, and what may come of that.

use std::collections::{BTreeMap, BTreeSet};

use makima_core::effect::LinkEffect;
use makima_core::id::Epoch;
use makima_core::input::Input;
use makima_core::protocol::{Said, Wire};

/// Those of one life of the daemon.
#[derive(Clone, Debug, Default)]
pub(super) struct Links(BTreeMap<Epoch, Line>);

#[derive(Clone, Debug, Default)]
struct Line {
    /// It was there before anything is known of it.
    unknown: bool,
    /// What is spoken; none before it stands.
    wire: Option<Wire>,
    /// The daemon wants it no more. What was on its way comes all the same.
    closed: bool,
    /// Its end was told.
    over: bool,
    sent: u64,
    flushed: u64,
    /// Pings that were not answered.
    pings: BTreeSet<u64>,
}

impl Links {
    /// Something happens on a connection. `partial`: there may be some that nothing is known of.
    pub(super) fn takes(&mut self, input: &Input, partial: bool) -> Result<(), String> {
        match input {
            Input::LinkUp { epoch, wire } => {
                let line = self.find(*epoch, partial)?;
                line.must(!line.over, "stands after its end")?;
                line.must(line.unknown || line.wire.is_none(), "comes to stand twice")?;
                line.wire = Some(*wire);
            }
            Input::LinkDown { epoch, .. } => {
                let line = self.find(*epoch, partial)?;
                line.must(!line.over, "ends twice")?;
                line.over = true;
            }
            Input::Command { epoch, .. } | Input::Unreadable { epoch, .. } => drop(self.standing(*epoch, partial)?),
            Input::Said { epoch, said } => {
                let line = self.standing(*epoch, partial)?;
                line.must(line.unknown || line.wire == Some(Wire::Two), "of version 1 brings what only version 2 has")?;
                if let Said::Pong(n) = said {
                    line.must(line.unknown || *n <= line.sent, "answers a ping that was never sent")?;
                }
            }
            Input::Flushed { epoch, n } => {
                let line = self.standing(*epoch, partial)?;
                let (sent, flushed) = (line.sent, line.flushed);
                line.must(line.unknown || *n <= sent, &format!("has flushed frame {n}, and the last sent is {sent}"))?;
                line.must(*n > flushed, &format!("has flushed frame {n} after frame {flushed}"))?;
                line.flushed = *n;
            }
            Input::Pong { epoch, n } => {
                let line = self.find(*epoch, partial)?;
                // The world lets one come late that was never sent: nobody looks at what a connection of before says.
                let answers = line.pings.remove(n) || line.unknown || line.closed || line.over;
                line.must(answers, &format!("answers the ping {n}, which was not sent or is answered"))?;
            }
            Input::Boot(_)
            | Input::Tick
            | Input::Done { .. }
            | Input::Exited { .. }
            | Input::Journal { .. }
            | Input::Stop { .. } => {}
        }
        Ok(())
    }

    /// The daemon wants something of one.
    pub(super) fn gave(&mut self, effect: &LinkEffect) -> Result<(), String> {
        match effect {
            LinkEffect::Connect { epoch, .. } => {
                if self.0.insert(*epoch, Line::default()).is_some() {
                    return Err(format!("connection {} is asked for twice", epoch.0));
                }
            }
            LinkEffect::Send { epoch, n, .. }
            | LinkEffect::Output { epoch, n, .. }
            | LinkEffect::Say { epoch, n, .. } => {
                self.sends(*epoch, *n);
            }
            LinkEffect::Ping { epoch, n } => {
                self.sends(*epoch, *n);
                self.0.entry(*epoch).or_default().pings.insert(*n);
            }
            LinkEffect::Quiesce { .. } => {}
            LinkEffect::Close { epoch } => {
                if let Some(line) = self.0.get_mut(epoch) {
                    line.closed = true;
                }
            }
        }
        Ok(())
    }

    fn sends(&mut self, epoch: Epoch, n: u64) {
        if let Some(line) = self.0.get_mut(&epoch) {
            line.sent = line.sent.max(n);
        }
    }

    fn find(&mut self, epoch: Epoch, partial: bool) -> Result<&mut Line, String> {
        if partial {
            self.0.entry(epoch).or_insert_with(|| Line { unknown: true, ..Line::default() });
        }
        self.0.get_mut(&epoch).ok_or_else(|| format!("connection {} was never asked for", epoch.0))
    }

    fn standing(&mut self, epoch: Epoch, partial: bool) -> Result<&mut Line, String> {
        let line = self.find(epoch, partial)?;
        line.must(line.unknown || line.wire.is_some(), "brings something before it stands")?;
        line.must(!line.over, "brings something after its end")?;
        Ok(line)
    }
}

impl Line {
    fn must(&self, holds: bool, what: &str) -> Result<(), String> {
        if holds { Ok(()) } else { Err(format!("a connection {what}")) }
    }
}
