//! The `control` table: what the node did itself.

use types::id::SequenceNumber;

use super::{Micros, Table, table};

table! {
    /// One event of the node: start, stop, heartbeat, change of policy, …
    ControlRow = Table::Control;
    /// The node.
    node_id: String = 1,
    /// The log's epoch.
    log_epoch: i32 = 2,
    /// The place in the node's log; `node_id/log_epoch/seq` is the row's id.
    seq: SequenceNumber = 3,
    /// When.
    ts: Micros = 4,
    /// `CLOCK_BOOTTIME`, nanoseconds.
    mono_ns: i64 = 5,
    /// The boot in which `mono_ns` counts.
    boot_id: String = 6,
    /// `log.start`, `heartbeat`, `policy.change`, ….
    kind: String = 7,
    /// The rest, one JSON object.
    detail: String = 8,
    /// Heartbeat: connections the kernel saw.
    flows_observed: Option<i64> = 9,
    /// Of those, proxied.
    flows_proxied: Option<i64> = 10,
    /// Of those, refused.
    flows_denied: Option<i64> = 11,
    /// Of those, past the proxy.
    flows_bypassed: Option<i64> = 12,
    /// Of those, failed.
    flows_failed: Option<i64> = 13,
    /// Kernel events lost.
    ring_drops: Option<i64> = 14,
    /// How long the oldest record waits, microseconds.
    journal_lag_us: Option<i64> = 15,
    /// `synced`, `unsynced` (adjtimex).
    clock_state: Option<String> = 16,
    /// Offset, microseconds.
    clock_offset_us: Option<i64> = 17,
    /// Largest error, microseconds.
    clock_maxerror_us: Option<i64> = 18,
    /// Who did it.
    subject: Option<String> = 19,
    /// By which ticket.
    ticket: Option<String> = 20,
    /// Digest before, hex.
    old_digest: Option<String> = 21,
    /// Digest after, hex.
    new_digest: Option<String> = 22,
    /// Digest of the kernel programs, hex.
    program_digest: Option<String> = 23,
}
