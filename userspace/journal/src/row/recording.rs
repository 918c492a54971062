//! The `recordings` table: what may hold personal data, kept apart and for less long.

use types::id::SequenceNumber;

use super::{Micros, Table, Text, table};

table! {
    /// What one command said and was answered.
    RecordingRow = Table::Recordings;
    /// The node.
    node_id: Text = 1,
    /// The log's epoch.
    log_epoch: i32 = 2,
    /// The place in the node's log; `node_id/log_epoch/seq` is the row's id.
    seq: SequenceNumber = 3,
    /// When what is recorded began.
    ts: Micros = 4,
    /// The session.
    session_id: Text = 5,
    /// The command's place in it.
    session_seq: i32 = 6,
    /// `db_result`, `http_answer`, `dns_answer`; of sealed chunks the session's protocol.
    stream: Text = 7,
    /// Which chunk of the stream.
    chunk: i32 = 8,
    /// Of its first byte.
    first_ts: Micros = 9,
    /// Of its last byte.
    last_ts: Micros = 10,
    /// The exact text, masked where policy says so.
    statement: Option<String> = 11,
    /// SHA-256 of the whole text where it is cut, hex.
    statement_sha256: Option<String> = 12,
    /// Bound parameters, a JSON list.
    parameters: Option<String> = 13,
    /// The head of the response as the agent saw it.
    response_sample: Option<String> = 14,
    /// How `sealed` is compressed: `zstd` or `raw`.
    codec: Option<String> = 15,
    /// The key that seals it; wrapped, it is in the vault of keys, as long as it is.
    dek_id: Option<String> = 16,
    /// The nonce, hex.
    nonce: Option<String> = 17,
    /// The sealed bytes.
    sealed: Option<Vec<u8>> = 18,
    /// SHA-256 of the sealed bytes, hex.
    sha256: Option<String> = 19,
    /// SHA-256 of all messages of the response as the agent saw them, hex, where policy asks for it.
    response_sha256: Option<String> = 20,
}
