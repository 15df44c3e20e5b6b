//! Asks for commands, again and again.

use std::time::Duration;

use makima_core::input::LinkCause;
use makima_core::protocol::Frame;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::request::{Answer, Caller};
use super::{OpenPoll, Shared, Teller, pause};
use crate::client::Timeouts;

/// The longest pause after a poll that brought nothing: a server that does not hold polls is not asked without end.
const EMPTY: u64 = 250;

/// How long the next poll waits for our side to have applied what the last one brought. It says so then, and the
/// server need not think that it was lost.
const APPLY: Duration = Duration::from_millis(50);

/// What asking takes.
pub(super) struct Polls<'a> {
    pub(super) caller: Caller,
    pub(super) session: &'a str,
    pub(super) limits: Timeouts,
    pub(super) shared: &'a Shared,
    pub(super) teller: &'a Teller,
}

/// What `/poll` is answered with.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    commands: Vec<&'a RawValue>,
    #[serde(default)]
    more: bool,
}

impl Polls<'_> {
    /// Asks until it fails, or until told to be quiet and nothing is open.
    pub(super) async fn run(self, quiescing: &CancellationToken) -> Result<(), LinkCause> {
        while !quiescing.is_cancelled() {
            let (newest, came) = self.poll().await?;
            if came {
                let mut acked = self.shared.acked.subscribe();
                let applied = acked.wait_for(|acked| *acked >= newest);
                // Whether it came to that or not: the server is asked.
                let _ = timeout(APPLY, applied).await;
            } else if !pause(Duration::from_millis(chance() % (EMPTY + 1)), quiescing).await {
                break;
            }
        }
        Ok(())
    }

    /// Asks once and hands up what comes. Gives back the newest number in it, and whether to ask again at once.
    async fn poll(&self) -> Result<(u64, bool), LinkCause> {
        let acked = *self.shared.acked.borrow();
        let (session, wait) = (self.session, self.limits.hold.as_secs());
        let body = format!(r#"{{"session":{session},"ack":{acked},"wait":{wait}}}"#);
        self.shared.poll.send_replace(OpenPoll { open: true, acked });
        let answer = self.caller.post(body, self.limits.poll).await;
        self.shared.poll.send_replace(OpenPoll { open: false, acked });
        let answer = answer?;
        let (commands, more) = commands(&answer)?;
        let rode = self.shared.rode().take();
        self.teller.flushed(rode).await;
        let mut newest = 0;
        for command in &commands {
            newest = newest.max(Frame::read(command).ok().and_then(|frame| frame.seq).unwrap_or(0));
            self.teller.frame(command).await;
        }
        Ok((newest, more || !commands.is_empty()))
    }
}

/// The commands of an answer, and whether there are more at once.
pub(super) fn commands(answer: &Answer) -> Result<(Vec<&str>, bool), LinkCause> {
    let body: Body<'_> = answer.read()?;
    Ok((body.commands.into_iter().map(RawValue::get).collect(), body.more))
}

/// Many daemons are not to ask at the same moment.
fn chance() -> u64 {
    getrandom::u64().unwrap_or(EMPTY)
}
