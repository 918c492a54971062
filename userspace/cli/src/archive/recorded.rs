//! One session as the archive has it: its commands, and what was said and answered, as far as it is kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use archive::scan::{self, Filter, ScanError};
use clap::Args as ClapArgs;
use journal::row::{EventRow, RecordingRow, Row, Table};
use recording::entry::{Entry, Gap, Kind};
use recording::keys;
use types::addr::Side;
use types::id::{CommandId, SessionId};

use crate::recordings::open;
use crate::recordings::read::{Opener, entries};

/// Bytes of statements and answers that are held: a session of two thousand commands of 64 KiB each.
const HELD_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Which session, and what opens it.
#[derive(Debug, ClapArgs)]
pub(crate) struct Source {
    /// The archive.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vestibule/archive")]
    archive: PathBuf,
    /// A private key that opens what is sealed of it; `vestibule recordings open` shows all of that.
    #[arg(long, value_name = "FILE", requires = "purpose")]
    key: Option<PathBuf>,
    /// What for it is opened; it is recorded, and must not be empty.
    #[arg(long, value_name = "TEXT", requires = "key")]
    purpose: Option<String>,
    /// The vault of wrapped keys.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vestibule/recordings/keys")]
    vault: PathBuf,
    /// The session.
    #[arg(value_name = "SESSION")]
    session: String,
}

/// A piece of the wire.
#[derive(Debug)]
pub(crate) struct Said {
    /// Whose it is: the agent's is downstream.
    pub(crate) side: Side,
    /// When it passed, microseconds since 1970 UTC.
    pub(crate) at_us: i64,
    /// What passed.
    pub(crate) what: What,
}

/// What passed over the wire.
#[derive(Debug)]
pub(crate) enum What {
    /// These bytes.
    Bytes(Vec<u8>),
    /// So many that are not kept, and why.
    Gap(u64, String),
}

/// A session.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// Its commands in order; there is one at least.
    pub(crate) events: Vec<EventRow>,
    /// What was said and answered, by the command's number.
    pub(crate) recordings: BTreeMap<i32, RecordingRow>,
    /// What went over the wire at a command, where all of it is kept and it is text: HTTP's.
    wire: BTreeMap<i32, Vec<Said>>,
    bytes: usize,
    /// There is more than is held.
    pub(crate) is_cut: bool,
}

impl Session {
    /// Reads it, and opens what is sealed where a key is given.
    pub(crate) fn read(control: &Path, source: &Source) -> Result<Self> {
        let Source { archive, session, .. } = source;
        let filter = Filter { sessions: vec![session.clone()], ..Filter::default() };
        let mut found = Self::default();
        for table in [Table::Events, Table::Recordings] {
            scan::scan(archive, table, &filter, &mut |row| {
                found.take(row);
                Ok::<(), ScanError>(())
            })?;
        }
        found.events.sort_by_key(|event| event.session_seq);
        if found.events.is_empty() {
            bail!("session {session} has no command in this archive; is it sealed?");
        }
        found.unseal(control, source)?;
        Ok(found)
    }

    /// What was said and answered at a command.
    pub(crate) fn recording(&self, event: &EventRow) -> Option<&RecordingRow> {
        self.recordings.get(&event.session_seq)
    }

    /// What went over the wire at a command; nothing where that is not kept, or is no text.
    pub(crate) fn wire(&self, event: &EventRow) -> &[Said] {
        self.wire.get(&event.session_seq).map_or(&[], Vec::as_slice)
    }

    /// Puts in what is sealed, where a key is given.
    fn unseal(&mut self, control: &Path, source: &Source) -> Result<()> {
        let Source { archive, key: Some(key), purpose, vault, session } = source else {
            return Ok(());
        };
        let (session, key) = (session.parse::<SessionId>()?, keys::read_private(key)?);
        let opener = Opener::new(vault, &key, session)?;
        open::note(control, &key, session, purpose.as_deref().unwrap_or_default())?;
        entries(archive, &opener, &mut |_, entry| {
            self.add(entry);
            Ok(())
        })?;
        Ok(())
    }

    fn add(&mut self, entry: Entry<'_>) {
        let Entry { head, bytes } = entry;
        self.bytes += bytes.len();
        self.is_cut |= self.bytes > HELD_BYTES_MAX;
        let command = i32::try_from(head.command.0).unwrap_or(i32::MAX);
        let is_text = self.events.first().is_some_and(|event| event.session.protocol == "http");
        if self.is_cut {
            return;
        }
        let row = self.recordings.entry(command).or_default();
        let text = match head.kind {
            Kind::Statement => &mut row.statement,
            Kind::Parameters => &mut row.parameters,
            Kind::Answer => &mut row.response_sample,
            Kind::Sent if is_text => return self.add_wire(Side::Downstream, entry),
            Kind::Received if is_text => return self.add_wire(Side::Upstream, entry),
            Kind::Gap if is_text => return self.add_gap(entry),
            Kind::Sent | Kind::Received | Kind::Gap | Kind::End | Kind::CommandLine => return,
        };
        text.get_or_insert_default().push_str(&String::from_utf8_lossy(bytes));
    }

    fn add_wire(&mut self, side: Side, Entry { head, bytes }: Entry<'_>) {
        let said = self.said(head.command);
        match said.last_mut() {
            Some(Said { side: before, what: What::Bytes(all), .. }) if *before == side => {
                all.extend_from_slice(bytes);
            }
            _ => said.push(Said { side, at_us: head.at_us, what: What::Bytes(bytes.to_vec()) }),
        }
    }

    fn add_gap(&mut self, Entry { head, bytes }: Entry<'_>) {
        let Some(gap) = Gap::read(bytes) else { return };
        let side = if gap.side == Kind::Sent.as_str() { Side::Downstream } else { Side::Upstream };
        let what = What::Gap(gap.bytes, gap.why);
        self.said(head.command).push(Said { side, at_us: head.at_us, what });
    }

    fn said(&mut self, command: CommandId) -> &mut Vec<Said> {
        self.wire.entry(i32::try_from(command.0).unwrap_or(i32::MAX)).or_default()
    }

    fn take(&mut self, row: Row) {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.bytes += match &row {
            Row::Event(event) => 2_048 + event.statement.statement_norm.len(),
            Row::Recording(one) => length(&one.statement) + length(&one.response_sample),
            Row::Session(_) | Row::Control(_) => 0,
        };
        self.is_cut |= self.bytes > HELD_BYTES_MAX;
        match row {
            _ if self.is_cut => {}
            // A part of what is sealed.
            Row::Recording(one) if one.sealed.is_some() => {}
            Row::Event(event) => self.events.push(*event),
            Row::Recording(one) => drop(self.recordings.insert(one.session_seq, *one)),
            Row::Session(_) | Row::Control(_) => {}
        }
    }
}
