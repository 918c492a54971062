//! What an agent is told where the journal can't be written.

use journal::record::Lsn;
use journal::recorder::AppendError;
use proto::session::{Refusal, Session};
use types::addr::Side;

use super::Relay;

/// io_error and disk_full (PostgreSQL documentation, appendix A).
const IO_ERROR: [u8; 5] = *b"58030";
const DISK_FULL: [u8; 5] = *b"53100";

/// The refusal of a command that could not be recorded.
pub(super) fn refusal(error: &AppendError) -> Refusal {
    let message = format!("{error}; nothing goes on unrecorded");
    let mut refusal = Refusal::new("journal".into(), message.into());
    match error {
        AppendError::Pressure => refusal.code = DISK_FULL,
        AppendError::Failing(_) | AppendError::Failed(_) => refusal.code = IO_ERROR,
        _ => {}
    }
    refusal
}

impl Relay<'_> {
    /// Drops what waits for a record that is not durable, and ends the session with an error that says so. What the
    /// server works at is cancelled: nobody will see its answer.
    pub(super) fn tell_unrecorded(&mut self) {
        let text = "vestibule: the journal can't be written; nothing goes on unrecorded";
        let request = self.session.drop_all(IO_ERROR, text);
        // Nothing is left that needs a record.
        self.gates.downstream = Lsn(0);
        self.is_unrecorded = true;
        if let Some(request) = request {
            self.limiter.give_up(self.ledger.accepted().clone(), request);
        }
        debug_assert!(self.session.transmit(Side::Upstream).is_empty());
    }
}
