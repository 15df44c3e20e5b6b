//! A process on a terminal, and what a person sees there.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::Child;
use std::sync::{Arc, Mutex};

use pty_process::Size;
use pty_process::blocking::{Command, Pty, open};
use rustix::process::{Pid, Signal, kill_process};
use vt100::Parser;

use super::binary::makima;
use super::proc::Call;
use super::{SOON, until};

const ROWS: u16 = 40;
const COLUMNS: u16 = 120;

/// A terminal with a process on it.
pub(crate) struct Terminal {
    child: Child,
    keyboard: Pty,
    pub(crate) screen: Arc<Mutex<Parser>>,
}

impl Call {
    /// Starts it as a person does.
    pub(crate) fn on_a_terminal(self) -> Terminal {
        let (keyboard, there) = open().expect("a terminal");
        keyboard.resize(Size::new(ROWS, COLUMNS)).expect("of this size");
        let command = Command::new(makima()).args(&self.words).current_dir(&self.folder);
        let command = command.env_clear().envs(self.env).env("TERM", "xterm-256color");
        let child = command.spawn(there).expect("makima can be started");
        let screen = Arc::new(Mutex::new(Parser::new(ROWS, COLUMNS, 1_000)));
        let shown = Arc::clone(&screen);
        let mut from = std::fs::File::from(keyboard.as_fd().try_clone_to_owned().expect("a descriptor"));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // A terminal that nobody has open any more answers with an error.
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                shown.lock().expect("no panic").process(&bytes[..count]);
            }
        });
        Terminal { child, keyboard, screen }
    }
}

impl Terminal {
    /// What stands on the screen now.
    pub(crate) fn screen(&self) -> String {
        self.screen.lock().expect("no panic").screen().contents()
    }

    /// Waits until this stands there.
    #[track_caller]
    pub(crate) fn shows(&self, text: &str) {
        until(&format!("{text:?} on the screen"), SOON, || self.screen().contains(text).then_some(()));
    }

    pub(crate) fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("it has a keyboard");
    }

    /// Waits for its end. Gives its exit code and what is left on the screen.
    #[track_caller]
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let status = until("its end", SOON, || self.child.try_wait().expect("a child of ours"));
        // What it wrote last is on its way.
        std::thread::sleep(std::time::Duration::from_millis(100));
        (status.code(), self.screen())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = kill_process(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}
