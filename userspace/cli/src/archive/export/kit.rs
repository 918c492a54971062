//! `vestibule archive export kit`: one case with its proofs, a verifier and a report, in a folder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use archive::attest::Document;
use archive::kit::{self, Options};
use clap::Args as ClapArgs;
use journal::clock::SystemClock;
use types::clock::Clock as _;

use crate::signing;

/// Write an evidence kit of one case: the sessions' rows (Parquet and JSON Lines), proofs that they are under the signed
/// checkpoint, public keys, a verifier that needs only Python, and a report that opens offline. All of it is listed in a
/// manifest that the daemon signs, and records that it did; or a key of yours.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The archive.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vestibule/archive")]
    archive: PathBuf,
    /// A session that the case is about; as often as needed.
    #[arg(long = "session", value_name = "SESSION", required = true)]
    sessions: Vec<String>,
    /// The kit's folder, which must not be there yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    signing: signing::Args,
}

pub(super) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    let Args { archive, sessions, out, signing } = args;
    let now = SystemClock.now();
    let (archive, sessions) = (archive.clone(), sessions.clone());
    let options = Options { archive, sessions, out: out.clone(), now_us: now.unix_us };
    let unsigned = kit::write(&options)?;
    let rows: Vec<String> =
        unsigned.rows.iter().map(|(table, rows)| format!("{rows} {table}")).collect();
    let (note, key) = signing.sign(control, Document::Kit, unsigned.manifest, now)?;
    unsigned.finish(&note, &key)?;
    println!("{}: {}", out.display(), rows.join(", "));
    println!("check it: python3 {}", out.join("verify.py").display());
    Ok(ExitCode::SUCCESS)
}
