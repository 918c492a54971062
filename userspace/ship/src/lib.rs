//! Ships an archive to an object store, brings it back from there, and lets go here of what is safe there.
//!
//! What is in the store is what is here, byte for byte and by the same names. Names of immutable things are written once
//! and never over; whatever lies there already must be equal. The few things that change (`checkpoint`, cosignatures,
//! texts) are replaced by compare-and-swap, and only where what lies there is an earlier state of the same. It judges no
//! evidence: `archive::verify` does.

pub mod check;
pub mod fetch;
pub mod hold;
pub mod pass;
pub mod place;
pub mod prune;
pub mod remote;
mod s3;
mod snapshot;
pub mod state;
mod store;

use std::io;
use std::path::PathBuf;

use types::hex::hex;

/// A content: its digest and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// SHA-256.
    pub sha256: [u8; 32],
    /// Its length.
    pub bytes: u64,
}

/// Why something was not shipped or brought back. What was stays so.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// The configuration names no place that can be used.
    #[error("{0}")]
    Place(String),
    /// The store refused, or can't be reached.
    #[error("{name}: {source}")]
    Store {
        /// The object.
        name: String,
        /// Why.
        source: Box<object_store::Error>,
    },
    /// The store answered something else than it should.
    #[error("{name}: {told}")]
    Answer {
        /// The object or what was asked.
        name: String,
        /// What it said.
        told: String,
    },
    /// Something else lies there; it was left as it is.
    #[error(
        "{name} is in the store and is not what is here: {} there, {} here; nothing was overwritten",
        sum_text(.there), sum_text(.here)
    )]
    Conflict {
        /// The object.
        name: String,
        /// What is here.
        here: Sum,
        /// What is there.
        there: Sum,
    },
    /// The log in the store is not the beginning of the log here.
    #[error("the log was rolled back or is another one: {0}")]
    Rollback(String),
    /// What is here is not as it was sealed.
    #[error("{} is not as it was sealed: verify the archive", .0.display())]
    Changed(PathBuf),
    /// The store does not hold objects as the configuration demands.
    #[error("object lock: {0}")]
    Lock(String),
    /// What is held can't be told.
    #[error("legal holds: {0}")]
    Hold(String),
    /// The system refused.
    #[error("{}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ShipError {
    /// Whether trying again later may help.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Store { .. } | Self::Answer { .. } | Self::Io { .. })
    }
}

fn sum_text(sum: &Sum) -> String {
    format!("{} bytes of SHA-256 {}", sum.bytes, hex(&sum.sha256))
}

pub(crate) fn io_error(path: &std::path::Path) -> impl FnOnce(io::Error) -> ShipError {
    let path = path.to_owned();
    move |source| ShipError::Io { path, source }
}
