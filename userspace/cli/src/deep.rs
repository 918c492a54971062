//! A thread on which statements as deep as the daemon takes can be analyzed.

use anyhow::{Result, anyhow};

/// The stack that the grammar needs of its thread (`proto::sql`).
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Does some work on such a thread, and waits for it.
///
/// # Errors
/// Those of the work; or there is no thread, or it panicked.
pub(crate) fn run<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, work)?;
        thread.join().map_err(|_| anyhow!("what was to be analyzed ended the analysis"))?
    })
}
