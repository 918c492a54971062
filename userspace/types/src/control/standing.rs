//! How far the node is with what others do for it: part of its status.

use serde::{Deserialize, Serialize};

/// How a host's link to its hub is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubStanding {
    /// The hub's address and name; none while no hub is reached.
    pub hub: Option<String>,
    /// Since when it is so, microseconds since 1970 UTC.
    pub since_us: i64,
    /// Requests whose state no hub was told yet.
    pub backlog: u64,
    /// Votes taken from hubs since the start.
    pub votes: u64,
    /// Why no hub is reached.
    pub error: Option<String>,
}

/// How far a witness of the node's log is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessStanding {
    /// Its name in the policy.
    pub name: String,
    /// Where it is asked.
    pub url: String,
    /// The size that it cosigned last; none before the first since the start.
    pub size: Option<u64>,
    /// Sealed rows beyond that.
    pub rows_behind: u64,
    /// Why it did not cosign the newest checkpoint.
    pub error: Option<String>,
}

/// How far the archive is shipped to its store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShipStanding {
    /// The store.
    pub url: String,
    /// Rows under the checkpoint that is in the store, with all that it covers.
    pub size: u64,
    /// Rows that are sealed and not under it.
    pub rows_behind: u64,
    /// Their Parquet files that are not in the store.
    pub files_behind: u64,
    /// The bytes of these.
    pub bytes_behind: u64,
    /// When the oldest of the rows were sealed, microseconds since 1970 UTC.
    pub oldest_us: Option<i64>,
    /// Why the last shipment failed.
    pub error: Option<String>,
}

/// How the journal is sealed between checkpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalSealStanding {
    /// The number of the next seal.
    pub next: u64,
    /// The last frame that a seal covers.
    pub lsn: u64,
}

/// What the journal takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalStanding {
    /// The sequence number of its first row.
    pub first_row: u64,
    /// Its segments.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether segments go by themselves once they are safe elsewhere.
    pub lets_go: bool,
}

/// Segments of the journal that went, or would go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalPruned {
    /// How many.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The sequence number of the first row that is in the journal then.
    pub first_row: u64,
    /// What says how far they may go, in words.
    pub limits: Vec<String>,
}

/// How far events are forwarded to a receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardStanding {
    /// Its name in the configuration.
    pub name: String,
    /// Where it is.
    pub to: String,
    /// The row that is sent next: all before it were taken.
    pub next_row: u64,
    /// Durable rows that were not.
    pub rows_behind: u64,
    /// Why nothing goes there now.
    pub error: Option<String>,
}

/// A day of a table whose files were put together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactedDay {
    /// The table.
    pub table: String,
    /// The day, UTC.
    pub day: String,
    /// Its rows.
    pub rows: u64,
    /// Files that there were.
    pub files_before: u64,
    /// Their bytes.
    pub bytes_before: u64,
    /// Files that there are now; absent where it was not done.
    pub files: Option<u64>,
    /// Their bytes.
    pub bytes: Option<u64>,
}
