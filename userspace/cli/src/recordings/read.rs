//! A session's chunks, from the archive, opened one after the other.

use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail, ensure};
use archive::scan::{self, Filter};
use journal::row::{RecordingRow, Row, Table};
use recording::chunk::{self, Place};
use recording::entry::{self, Entry, Kind};
use recording::keys::PrivateKey;
use recording::vault::Vault;
use recording::wrap;
use types::hex::hex;
use types::id::SessionId;
use types::secret::Secret;

/// Where a session's recording is, and what opens it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Source {
    /// The archive.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vestibule/archive")]
    pub(crate) archive: PathBuf,
    /// The vault of wrapped keys.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vestibule/recordings/keys")]
    pub(crate) vault: PathBuf,
}

/// A session's key, and where it counts.
pub(crate) struct Opener {
    session: SessionId,
    node: String,
    epoch: u32,
    dek: Secret<[u8; 32]>,
}

impl Opener {
    /// The key of a session, as the vault has it for whose `key` this is.
    pub(crate) fn new(vault: &Path, key: &PrivateKey, session: SessionId) -> Result<Self> {
        let entry = Vault::at(vault).find(session)?;
        let dek = wrap::unwrap(&entry.wrapped, (&entry.node, entry.epoch), session, key)?;
        Ok(Self { session, node: entry.node, epoch: entry.epoch, dek })
    }

    /// The content of one chunk.
    fn open(&self, row: &RecordingRow) -> Result<Vec<u8>> {
        let missing = "the archive's row has no sealed chunk where one is said to be";
        let (Some(sealed), Some(codec)) = (&row.sealed, &row.codec) else { bail!(missing) };
        let epoch = u32::try_from(row.log_epoch).ok();
        let is_its = row.node_id == self.node
            && epoch == Some(self.epoch)
            && row.session_id == self.session.to_string();
        ensure!(is_its, "chunk {} is of another session, node or epoch", row.chunk);
        let chunk = u32::try_from(row.chunk).context("a chunk has no number")?;
        let nonce = chunk::nonce(chunk);
        ensure!(
            row.nonce == Some(hex(&nonce)),
            "chunk {chunk} has another nonce than its number's"
        );
        let place = Place {
            node: &self.node,
            epoch: self.epoch,
            session: self.session,
            stream: &row.stream,
            chunk,
        };
        Ok(chunk::open(self.dek.expose(), place, (codec, &nonce), sealed)?)
    }
}

/// Calls `each` with the chunk's number and entry, for all entries of a session in order; answers whether the recording is
/// whole: it has an end.
pub(crate) fn entries(
    archive: &Path,
    opener: &Opener,
    each: &mut dyn FnMut(u32, Entry<'_>) -> Result<()>,
) -> Result<bool> {
    let filter = Filter { sessions: vec![opener.session.to_string()], ..Filter::default() };
    let (mut next, mut has_ended) = (0, false);
    scan::scan(archive, Table::Recordings, &filter, &mut |row| {
        let Row::Recording(row) = row else { return Ok(()) };
        if row.sealed.is_none() {
            return Ok(());
        }
        ensure!(
            row.chunk == next,
            "chunk {next} is missing before chunk {}: verify the archive",
            row.chunk
        );
        next += 1;
        let content = opener.open(&row)?;
        for entry in entry::read(&content)? {
            ensure!(!has_ended, "chunk {} comes after the recording's end", row.chunk);
            has_ended = entry.head.kind == Kind::End;
            each(u32::try_from(row.chunk)?, entry)?;
        }
        Ok::<(), Error>(())
    })?;
    let hint = "is it sealed into the archive (`vestibule archive seal`)?";
    ensure!(next > 0, "session {} has no sealed recording in this archive; {hint}", opener.session);
    Ok(has_ended)
}
