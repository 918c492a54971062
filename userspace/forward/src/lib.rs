//! Rows to others as they are committed: to a file, by syslog, by OTLP.
//!
//! They are read from the journal, so that a receiver that is away delays nothing and loses nothing: what it did not take
//! is read again. Each row comes at least once, in order; after a kill or a broken connection the last ones come again,
//! and their event ids (`node/epoch/seq`) say so. It writes nothing but how far each receiver is.

mod file;
mod otlp;
mod place;
mod position;
mod rows;
mod run;
mod syslog;

pub use place::{InvalidPlace, Place};
pub use run::{Job, Standing, Told, run};

use std::io;
use std::path::{Path, PathBuf};

/// A form of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The archive's columns, a JSON object a line.
    Json,
    /// OCSF 1.8, a JSON object a line: commands alone have a word there.
    Ocsf,
    /// ArcSight's Common Event Format.
    Cef,
    /// RFC 5424.
    Syslog,
}

/// Why rows were not taken.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The system refused.
    #[error("{what}")]
    Io {
        /// What was tried, with what.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The journal can't be read.
    #[error("the journal can't be read")]
    Journal(#[from] journal::assemble::AssembleError),
    /// The journal begins behind the row that is due.
    #[error(
        "the journal begins at row {found}, and row {due} is due: what is between is in the archive alone \
         (`vestibule archive export`); remove this receiver's position in the state directory to go on from there"
    )]
    Gap {
        /// The row that is due.
        due: u64,
        /// The row that is there.
        found: u64,
    },
    /// The receiver ended the connection.
    #[error("the receiver ended the connection")]
    Ended,
    /// The receiver took too long.
    #[error("the receiver did not take what it was sent within {0} s")]
    Slow(u64),
    /// There is no client.
    #[error("{0}")]
    Client(String),
    /// The receiver refused.
    #[error("the receiver answered {0}")]
    Refused(String),
    /// What is kept of how far it is can't be read.
    #[error("{} does not say how far it is", .0.display())]
    Position(PathBuf),
}

/// An error and what it came of, in one line.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        said = format!("{said}: {cause}");
        source = cause.source();
    }
    said
}

pub(crate) fn io_error(what: &str, path: &Path) -> impl FnOnce(io::Error) -> ForwardError {
    let what = format!("{what} {}", path.display());
    move |source| ForwardError::Io { what, source }
}
