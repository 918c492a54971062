//! Where a journal begins whose first segments were let go: a file beside the segments.
//!
//! It is no evidence: who can remove a segment can write it. It tells a start that segments are gone because they were let
//! go and not by a hand; that they were, an archive has in a sealed record ([`Start::RECORD`]).

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};
use types::hex::{hex, unhex};

use crate::disk::Disk;
use crate::frame::{Chain, genesis};
use crate::record::Lsn;
use crate::segment::SegmentHeader;

/// The file's name. What it holds takes some 150 bytes.
pub(crate) const NAME: &str = "start";

/// Where a journal begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The place of its first counted frame.
    pub lsn: Lsn,
    /// The sequence number of its first row.
    pub seq: u64,
    /// The chain value before it.
    pub chain: Chain,
}

impl Start {
    /// The kind of the control record that segments before a start are let go; its detail has what [`Start::parse`] reads.
    pub const RECORD: &str = "log.pruned";

    /// Where a log begins that is whole.
    pub(crate) fn genesis(node: &str, epoch: u32) -> Self {
        Self { lsn: Lsn(1), seq: 0, chain: genesis(node, epoch) }
    }

    /// Where a segment begins.
    pub fn of(header: &SegmentHeader) -> Self {
        Self { lsn: header.first_lsn, seq: header.first_seq, chain: header.previous_chain }
    }

    /// What the journal in `dir` says; `None` where nothing was let go.
    ///
    /// # Errors
    /// If it can't be read; [`io::ErrorKind::InvalidData`] where it is not as it was written.
    pub fn read(dir: &Path) -> io::Result<Option<Self>> {
        let path = dir.join(NAME);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let start = Self::parse(&text).ok_or_else(|| {
            let said = format!("{} does not say where the journal begins", path.display());
            io::Error::new(io::ErrorKind::InvalidData, said)
        })?;
        Ok(Some(start))
    }

    /// What a JSON object says by `first_lsn`, `first_seq` and `previous_chain`, beside which it may have others.
    pub fn parse(text: &str) -> Option<Self> {
        let said: Value = serde_json::from_str(text).ok()?;
        let lsn = said.get("first_lsn")?.as_u64().filter(|lsn| *lsn > 0)?;
        let seq = said.get("first_seq")?.as_u64()?;
        let chain = said.get("previous_chain")?.as_str()?;
        Some(Self { lsn: Lsn(lsn), seq, chain: unhex(chain)? })
    }

    /// The object that [`Start::parse`] reads.
    pub fn json(&self) -> Value {
        let Self { lsn, seq, chain } = self;
        json!({ "first_lsn": lsn.0, "first_seq": seq, "previous_chain": hex(chain) })
    }

    /// Writes it durably in place of what was there.
    pub(crate) fn keep(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let (path, unnamed) = (dir.join(NAME), dir.join("start.new"));
        let text = format!("{}\n", self.json());
        let bytes = u64::try_from(text.len()).map_err(io::Error::other)?;
        let file = disk.create(&unnamed, bytes)?;
        file.write_all_at(text.as_bytes(), 0)?;
        file.sync_all()?;
        disk.rename(&unnamed, &path)?;
        disk.sync_dir(dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Os;

    #[test]
    fn what_is_kept_is_read_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Start::read(dir.path()).unwrap(), None);
        let start = Start { lsn: Lsn(7), seq: 9, chain: [0xa5; 32] };
        start.keep(&Os, dir.path()).unwrap();
        assert_eq!(Start::read(dir.path()).unwrap(), Some(start));
        let other = Start { lsn: Lsn(8), ..start };
        other.keep(&Os, dir.path()).unwrap();
        assert_eq!(Start::read(dir.path()).unwrap(), Some(other));
        let text = fs::read_to_string(dir.path().join(NAME)).unwrap();
        for spoilt in
            ["", "{}", &text[..40], &text.replace("a5a5", "a5x5"), &text.replace(":8", ":0")]
        {
            fs::write(dir.path().join(NAME), spoilt).unwrap();
            let error = Start::read(dir.path()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{spoilt}");
        }
    }
}
