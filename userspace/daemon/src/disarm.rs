//! Letting agents go free: the record of it, and the way where no daemon runs.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use journal::clock::SystemClock;
use journal::recorder::Recorder;
use proxy::durability::Durability;
use tracing::warn;
use types::clock::Clock;

use crate::app::{open_journal, record as record_control};
use crate::archiver::Vault;
use crate::asker::Asker;
use crate::config::Config;

/// A reason's characters at most: it is one row's detail, and the request one line of 4 KiB.
const REASON_CHARS_MAX: usize = 1_000;

/// The exit status after agents were let go: a supervisor that starts the daemon again by itself
/// would arm the host again, and must not (`RestartPreventExitStatus=`).
pub(crate) const EXIT_STATUS: u8 = 10;

/// Writes who lets agents go free, and why; answers once it is durable.
pub(crate) fn record(recorder: &Recorder, reason: &str, asker: &Asker) -> Result<()> {
    let reason = reason.trim();
    ensure!(!reason.is_empty(), "a reason must be given");
    ensure!(
        reason.chars().count() <= REASON_CHARS_MAX,
        "the reason is longer than {REASON_CHARS_MAX} characters"
    );
    let detail = serde_json::json!({ "reason": reason, "by": asker });
    record_control(recorder, "ebpf.disarmed", &detail)
}

/// Lets agents of a daemon that has ended go free.
pub(crate) fn offline(config: &Config, reason: &str) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let nobody_waits = (&Durability::new(1), &Arc::default());
    let recorder = open_journal(config, &Vault::open(config)?, &clock, nobody_waits)
        .context("only one process writes the journal: ask the daemon by `vestibule disarm`")?;
    record(&recorder, reason, &Asker::of(std::process::id()))?;
    redirect::disarm(&config.kernel.pin_dir, &config.kernel.slice)?;
    warn!(reason, "disarmed: agents connect directly until the daemon runs again");
    Ok(())
}
