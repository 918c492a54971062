//! `vestibule recordings open`: what a session said and was answered.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args as ClapArgs, ValueEnum};
use recording::entry::{Entry, Gap, Kind};
use recording::keys::{self, PrivateKey};
use types::clock::utc;
use types::control::{Request, Response};
use types::id::SessionId;

use super::read::{self, Opener, Source};
use crate::control::ask;

/// Open a session's recording with the key of one to whom it was sealed: entries in the order in which they happened, as
/// JSON Lines, or the bytes of one direction.
///
/// At a host with the daemon it is recorded first who opens it, and what for. Elsewhere it is recorded nowhere, and that
/// is said.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
    /// The private key's file.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// What for; it is recorded, and must not be empty.
    #[arg(long, value_name = "TEXT")]
    purpose: String,
    /// What to write.
    #[arg(long, value_enum, default_value = "entries")]
    extract: Extract,
    /// With `sent` and `received`: an asterisk in the place of each byte that is not kept, so that all others are where they
    /// were. Without this they are left out.
    #[arg(long)]
    fill_gaps: bool,
    /// Write it here, to a file that is not there yet (mode 0600); to standard output where absent.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The session.
    #[arg(long, value_name = "ID")]
    session: SessionId,
}

/// What of a recording is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Extract {
    /// All entries, a JSON object a line.
    Entries,
    /// What came from the agent, to the byte.
    Sent,
    /// What went to the agent, to the byte.
    Received,
}

impl Extract {
    /// Whether it is the bytes of this side.
    fn is_of(self, side: &str) -> bool {
        match self {
            Self::Entries => false,
            Self::Sent => side == Kind::Sent.as_str(),
            Self::Received => side == Kind::Received.as_str(),
        }
    }
}

pub(super) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    let Args { source, key, purpose, extract, fill_gaps, out, session } = args;
    let key = keys::read_private(key)?;
    let opener = Opener::new(&source.vault, &key, *session)?;
    note(control, &key, *session, purpose)?;
    let to: Box<dyn Write> = match out {
        None => Box::new(io::stdout().lock()),
        Some(path) => {
            let mut options = OpenOptions::new();
            let file = options.write(true).create_new(true).mode(0o600).open(path);
            Box::new(file.with_context(|| path.display().to_string())?)
        }
    };
    let mut out = io::BufWriter::new(to);
    let mut missing = 0;
    let is_whole = read::entries(&source.archive, &opener, &mut |chunk, entry| {
        match (extract, entry.head.kind) {
            (Extract::Entries, _) => {
                writeln!(out, "{}", line(chunk, entry)?)?;
            }
            (Extract::Sent, Kind::Sent) | (Extract::Received, Kind::Received) => {
                out.write_all(entry.bytes)?;
            }
            (Extract::Sent | Extract::Received, Kind::Gap) => {
                let gap = Gap::read(entry.bytes).filter(|gap| extract.is_of(&gap.side));
                let bytes = gap.map_or(0, |gap| gap.bytes);
                missing += bytes;
                if *fill_gaps {
                    io::copy(&mut io::repeat(b'*').take(bytes), &mut out)?;
                }
            }
            (Extract::Sent | Extract::Received, _) => {}
        }
        Ok(())
    })?;
    out.flush()?;
    if missing > 0 {
        let how = if *fill_gaps { "asterisks in their place" } else { "left out" };
        eprintln!("vestibule: {missing} bytes are not kept: {how}; `--extract entries` says why");
    }
    if !is_whole {
        eprintln!(
            "vestibule: the recording has no end: the session goes on, or the daemon was killed"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// How long the daemon may take to write a record.
const PATIENCE: Duration = Duration::from_secs(30);

/// Has it recorded who opens a recording, where there is a daemon.
pub(crate) fn note(
    control: &Path,
    key: &PrivateKey,
    session: SessionId,
    purpose: &str,
) -> Result<()> {
    let purpose = purpose.trim().to_owned();
    if purpose.is_empty() {
        bail!("a purpose must be given");
    }
    if !control.exists() {
        let at = control.display();
        eprintln!(
            "vestibule: no daemon at {at}: that this recording is opened is recorded nowhere"
        );
        return Ok(());
    }
    let recipient = key.public().id();
    let request = Request::RecordingOpened { session, recipient, purpose };
    let response = ask(control, &request, PATIENCE).context("nothing is opened unrecorded")?;
    match response {
        Response::RecordingNoted => Ok(()),
        _ => bail!("the daemon's answer is not about recordings"),
    }
}

/// An entry as JSON: text where it is text, else base64.
fn line(chunk: u32, entry: Entry<'_>) -> Result<String> {
    let Entry { head, bytes } = entry;
    let content = match std::str::from_utf8(bytes) {
        Ok(text) => ("text", text.to_owned()),
        Err(_) => ("base64", STANDARD.encode(bytes)),
    };
    let mut object = serde_json::json!({
        "chunk": chunk,
        "command": head.command.0,
        "at": utc(head.at_us),
        "at_us": head.at_us,
        "kind": head.kind.as_str(),
        "offset": head.offset,
        "bytes": bytes.len(),
    });
    object[content.0] = content.1.into();
    if head.goes_on {
        object["goes_on"] = true.into();
    }
    Ok(serde_json::to_string(&object)?)
}
