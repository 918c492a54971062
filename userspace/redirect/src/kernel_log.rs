//! Passes what the kernel programs log on to the process' own log: debug builds only.
//!
//! The ring of 128 KiB is not pinned: an armed successor makes its own. Records that find it full
//! are lost; nothing waits for the reader.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use aya::Ebpf;
use aya_log::EbpfLogger;

use crate::Error;

/// Between two looks at the ring. Records take up to 512 bytes, so 256 of them fit: up to 2,560
/// connections a second are logged without loss.
const INTERVAL: Duration = Duration::from_millis(100);

/// The reading thread; dropping ends it after a last look.
#[derive(Debug)]
pub(crate) struct Reader {
    /// Dropped to end the thread; nothing is ever sent.
    running: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Starts reading, for the logger installed now. The programs must have been loaded: this
    /// takes the ring out of the object.
    pub(crate) fn start(object: &mut Ebpf) -> Result<Self, Error> {
        let mut ring = EbpfLogger::init(object).map_err(|error| Error::Log(Box::new(error)))?;
        let (running, stop) = mpsc::channel::<()>();
        // A thread of its own, because `flush` panics on a record it can't read.
        let thread = thread::Builder::new().name("kernel-log".to_owned()).spawn(move || {
            while stop.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                ring.flush();
            }
            ring.flush();
        });
        let thread = thread.map_err(|source| Error::Call { call: "clone", source })?;
        Ok(Self { running: Some(running), thread: Some(thread) })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        drop(self.running.take());
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the thread itself, and concerns the log alone.
            drop(thread.join());
        }
    }
}
