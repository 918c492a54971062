//! How far a receiver is, on disk: what a restart goes on with.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{ForwardError, io_error};

/// The row that is sent next: all before it were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Position {
    pub(crate) next_row: u64,
}

impl Position {
    /// What is kept; `None` before anything was.
    pub(crate) fn load(path: &Path) -> Result<Option<Self>, ForwardError> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|_| ForwardError::Position(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(io_error("reading", path)(source)),
        }
    }

    /// Keeps it.
    pub(crate) fn keep(self, path: &Path) -> Result<(), ForwardError> {
        let fail = io_error("writing", path);
        let text = serde_json::to_vec(&self).map_err(io::Error::other);
        text.and_then(|text| archive::files::write(path, &text, 0o600)).map_err(fail)
    }
}
