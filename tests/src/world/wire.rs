//! What goes over the wire between the daemon and whoever is at its far end.

use makima_core::id::{Epoch, TaskId};
use makima_core::input::Input;
use makima_core::protocol::{DaemonCommand, DaemonMessage, UnreadableKind};

use super::World;
use super::far::Far;
use super::net::{Attempt, Frame};
use super::server::Reply;
use crate::holds;

impl<F: Far> World<F> {
    /// What comes from a connection that is gone is counted, and nothing else.
    pub(super) fn stale(&mut self, input: Input) -> bool {
        let late = matches!(input, Input::LinkUp { .. } | Input::LinkDown { .. });
        self.seen.see("from a connection that is gone", if late { "what became of it" } else { "a frame" });
        let before = self.daemon.counters().stale_frames;
        self.step(input);
        let counted = self.daemon.counters().stale_frames == before + 1;
        holds!(OneLink, counted || self.exit.is_some(), "a frame of a connection that is gone was taken");
        true
    }

    pub(super) fn accept(&mut self) -> bool {
        match self.net.accept() {
            None => return false,
            Some(Attempt::Up(epoch, wire)) => {
                self.server.connected(epoch, wire);
                self.step(Input::LinkUp { epoch, wire });
            }
            Some(Attempt::Down(input)) => self.step(*input),
        }
        true
    }

    pub(super) fn deliver(&mut self) -> bool {
        let Some((epoch, frame)) = self.net.deliver() else { return false };
        self.note(|| match &frame {
            Frame::Message(message, ..) => format!("-> {}", message.write()),
            Frame::Said(said) => format!("-> {said:?}"),
            Frame::Ping(n) => format!("-> ping {n}"),
        });
        if let Frame::Message(message, envelope, _) = &frame {
            F::check_told(self, epoch, message, envelope.as_ref());
        }
        self.server.hear(epoch, &frame, &self.machine);
        if let Frame::Message(message, ..) = frame
            && let DaemonMessage::TaskComplete(end) = *message
        {
            self.check_interrupt(&end);
            self.check_subtasks(&end);
        }
        true
    }

    pub(super) fn answer(&mut self) -> bool {
        for (epoch, quiescing) in self.net.open() {
            match self.server.next(epoch) {
                Some(reply) => self.hear(epoch, reply),
                None if quiescing => {
                    self.server.disconnected(epoch);
                    if let Some(input) = self.net.give_up(epoch, "quiesced") {
                        self.step(input);
                    }
                }
                None => continue,
            }
            self.net.turn();
            return true;
        }
        false
    }

    /// The far end has closed a connection.
    pub(crate) fn hung_up(&mut self, epoch: Epoch) {
        let reaches = self.net.open().iter().any(|(open, _)| *open == epoch);
        self.server.disconnected(epoch);
        // Where the connection is broken nobody hears of it.
        if reaches && let Some(input) = self.net.give_up(epoch, "closed by the server") {
            self.step(input);
        }
    }

    /// The far end is gone with all connections, and is there again: it may speak another version now.
    pub(crate) fn server_is_gone(&mut self) {
        for (epoch, _) in self.net.open() {
            self.hung_up(epoch);
        }
        self.net.speak(self.server.speech());
    }

    /// A frame reaches the daemon.
    fn hear(&mut self, epoch: Epoch, reply: Reply) {
        self.server.speaks(self.now.mono);
        let mut interrupts = None;
        let input = match reply {
            Reply::Command(seq, Some(command)) => {
                self.note(|| format!("<- {} {}", seq.map(|seq| seq.to_string()).unwrap_or_default(), command.write()));
                self.see_command(&command);
                self.may_be_overtaken(epoch, &command);
                // Its last word may wait for the journal still.
                interrupts = self.timely_interrupt(&command).filter(|_| !self.daemon.has_exited());
                Input::Command { epoch, seq, command, credentials: None }
            }
            Reply::Pong(n) => {
                self.note(|| format!("<- pong {n}"));
                Input::Pong { epoch, n }
            }
            Reply::Said(said) => {
                self.note(|| format!("<- {said:?}"));
                Input::Said { epoch, said }
            }
            Reply::Command(seq, None) => Input::Unreadable {
                epoch,
                seq,
                what: makima_core::protocol::Unreadable {
                    kind: UnreadableKind::NotAMessage,
                    message_type: None,
                    reason: "rubbish".to_string(),
                    column: 1,
                },
            },
        };
        let before = self.unheard();
        self.step(input);
        if let Some(task) = interrupts.filter(|_| self.unheard() == before) {
            self.interrupted.insert(task, self.incarnation);
        }
    }

    /// What is said over one connection comes in order. Over two of them nothing says which came first, unless it bears
    /// a number; and where a proxy takes the second version away, what comes by the one that is left bears none.
    fn may_be_overtaken(&mut self, epoch: Epoch, command: &DaemonCommand) {
        if let DaemonCommand::SendMessage(message) = command
            && self.net.open().contains(&(epoch, true))
            && let Ok(text) = message.message.parse()
        {
            self.machine.folder_of(TaskId(message.task_id)).overtaken.insert(text);
        }
    }

    pub(super) fn cut(&mut self, told: bool) -> bool {
        let Some((epoch, input)) = self.net.cut(told) else { return false };
        self.server.disconnected(epoch);
        if let Some(input) = input {
            self.step(input);
        }
        true
    }
}
