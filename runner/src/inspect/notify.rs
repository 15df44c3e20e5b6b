//! What a service manager is told: that the daemon runs, how it stands, and that it is alive. It is called alive only
//! while its driver takes its turns and the core's deadlines are kept.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;

use makima_core::input::Stop;
use makima_core::time::Millis;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep, sleep_until};

use super::Asker;
use crate::driver::State;

/// How late a deadline of the core's may be.
const LATE: Millis = Millis::seconds(10);

/// Between two questions to a driver that has not begun yet.
const AGAIN: Duration = Duration::from_millis(100);

/// The way to the service manager, if there is one. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Notifier(Option<Arc<UnixDatagram>>);

/// What the service manager has asked for.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// The way to it.
    pub notifier: Notifier,
    /// A sign of life is to come this often, at the least.
    pub watchdog: Option<Duration>,
}

impl Wishes {
    /// As they stand in the environment.
    #[must_use]
    pub fn here() -> Self {
        let notifier = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()).map(|path| {
            Notifier::to(path.as_bytes()).inspect_err(|why| tracing::warn!("the service manager cannot be told: {why}"))
        });
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| ours && *usec > 0).map(Duration::from_micros);
        Self { notifier: notifier.and_then(Result::ok).unwrap_or_default(), watchdog }
    }
}

impl Notifier {
    /// To a socket by its path, or by its abstract name behind an `@`.
    fn to(path: &[u8]) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        match path.strip_prefix(b"@") {
            Some(name) => socket.connect_addr(&abstract_name(name)?)?,
            None => socket.connect(std::ffi::OsStr::from_bytes(path))?,
        }
        Ok(Self(Some(Arc::new(socket))))
    }

    /// Says something. Whoever does not listen is not waited for.
    fn say(&self, words: &str) {
        if let Some(Err(why)) = self.0.as_ref().map(|socket| socket.send(words.as_bytes())) {
            tracing::debug!("the service manager was not told {words:?}: {why}");
        }
    }

    /// The daemon was told to end. One that waits for its agents has no haste, and is not to be given a time for it.
    pub fn stopping(&self, how: Stop) {
        match how {
            Stop::Drain => self.say("STATUS=taking on nothing more, waiting for the agents to end"),
            // It may go on as if nothing had been said.
            Stop::IfIdle => {}
            Stop::Detach | Stop::Graceful | Stop::Forced => self.say("STOPPING=1"),
        }
    }
}

#[cfg(target_os = "linux")]
fn abstract_name(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_name(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Tells the service manager how the daemon stands, for as long as it is let.
pub async fn keep_told(wishes: Wishes, asker: Asker, mut state: watch::Receiver<State>) {
    let Wishes { notifier, watchdog } = wishes;
    if notifier.0.is_none() {
        return;
    }
    // Recovered and at work; whether the server is there is another matter.
    while asker.turn().await.is_none() {
        sleep(AGAIN).await;
    }
    notifier.say("READY=1");
    let mut next = Instant::now();
    loop {
        notifier.say(&format!("STATUS={}", words(&state.borrow_and_update())));
        loop {
            tokio::select! {
                changed = state.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Some(()) = at(watchdog.map(|_| next)) => {
                    next = Instant::now() + watchdog.unwrap_or_default() / 2;
                    if asker.turn().await.is_some_and(|late| late < LATE) {
                        notifier.say("WATCHDOG=1");
                    }
                }
            }
        }
    }
}

async fn at(when: Option<Instant>) -> Option<()> {
    sleep_until(when?).await;
    Some(())
}

fn words(state: &State) -> String {
    let State { link, unended, .. } = state;
    let s = if *unended == 1 { "" } else { "s" };
    format!("{link}; {unended} task{s}")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::{Question, questions};
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    /// The next word that a service manager hears, but for how things stand.
    async fn heard(manager: &tokio::net::UnixDatagram) -> String {
        loop {
            let mut buffer = [0; 256];
            let n = tokio::time::timeout(SOON, manager.recv(&mut buffer)).await.expect("in time").expect("a word");
            let word = String::from_utf8_lossy(&buffer[..n]).into_owned();
            if !word.starts_with("STATUS=") {
                return word;
            }
        }
    }

    fn manager(folder: &std::path::Path) -> (tokio::net::UnixDatagram, Notifier) {
        let path = folder.join("notify");
        let manager = tokio::net::UnixDatagram::bind(&path).expect("a socket");
        (manager, Notifier::to(path.as_os_str().as_bytes()).expect("it is there"))
    }

    /// A driver that takes its turns until it is told not to.
    #[tokio::test]
    async fn a_driver_that_takes_no_turns_or_is_late_is_not_called_alive() {
        let folder = tempfile::tempdir().expect("a folder");
        let (manager, notifier) = manager(folder.path());
        let (asker, mut asked) = questions();
        let (_state, watched) = watch::channel(State::default());
        let late = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&late);
        let driver = tokio::spawn(async move {
            while let Some(question) = asked.recv().await {
                if let Question::Turn(to) = question {
                    let _ = to.send(Millis(told.load(Ordering::Relaxed)));
                }
            }
        });
        let watchdog = Some(Duration::from_millis(40));
        let keeper = tokio::spawn(keep_told(Wishes { notifier, watchdog }, asker, watched));
        assert_eq!(heard(&manager).await, "READY=1");
        for _ in 0..3 {
            assert_eq!(heard(&manager).await, "WATCHDOG=1");
        }
        late.store(LATE.0, Ordering::Relaxed);
        assert!(falls_silent(&manager).await, "it is late");
        late.store(0, Ordering::Relaxed);
        assert_eq!(heard(&manager).await, "WATCHDOG=1");
        driver.abort();
        assert!(falls_silent(&manager).await, "nobody drives");
        keeper.abort();
    }

    /// What was under way is heard to its end; then there is nothing for many times the watchdog's time.
    async fn falls_silent(manager: &tokio::net::UnixDatagram) -> bool {
        tokio::time::sleep(Duration::from_millis(100)).await;
        while manager.try_recv(&mut [0; 256]).is_ok() {}
        tokio::time::timeout(Duration::from_secs(1), manager.recv(&mut [0; 256])).await.is_err()
    }

    #[tokio::test]
    async fn a_daemon_that_never_begins_is_never_called_ready() {
        let folder = tempfile::tempdir().expect("a folder");
        let (manager, notifier) = manager(folder.path());
        let (asker, asked) = questions();
        let (_state, watched) = watch::channel(State::default());
        let keeper = tokio::spawn(keep_told(Wishes { notifier, watchdog: None }, asker, watched));
        assert!(falls_silent(&manager).await);
        drop(asked);
        assert!(falls_silent(&manager).await);
        keeper.abort();
    }
}
