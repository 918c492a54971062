//! The thread that takes agents' execs out of the kernel's buffer, and says when something was
//! lost.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use identity::Processes;
use redirect::{Kernel, Lost};
use tracing::warn;

/// Between two looks: the buffer's size reckons with it (`redirect_common::EXECS_BYTES`).
const INTERVAL: Duration = Duration::from_millis(50);

/// The thread; dropping ends it.
pub(crate) struct Follower {
    /// Dropped to end the thread; nothing is ever sent.
    running: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Starts it.
    pub(crate) fn start(kernel: Arc<Kernel>, processes: Arc<Processes>) -> Result<Self> {
        let (running, stop) = mpsc::channel::<()>();
        let follow = move || {
            let mut before = Lost::default();
            while stop.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                processes.refresh();
                before = warned(&kernel, before);
            }
        };
        let thread = thread::Builder::new().name("execs".to_owned()).spawn(follow);
        let thread = thread.context("no thread for agents' execs")?;
        Ok(Self { running: Some(running), thread: Some(thread) })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        drop(self.running.take());
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the thread itself; what it fills is not needed any more.
            drop(thread.join());
        }
    }
}

/// Warns of what was lost since `before`; answers what is lost now.
fn warned(kernel: &Kernel, before: Lost) -> Lost {
    let Ok(lost) = kernel.lost() else { return before };
    if lost != before {
        let Lost { processes, execs } = lost;
        warn!(processes, execs, "agents' processes could not be followed for want of room");
    }
    lost
}
