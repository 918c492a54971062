//! `vestibule archive export kit`: one case with its proofs, a verifier and a report, in a folder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use archive::attest::Document;
use archive::kit::{self, Options};
use clap::Args as ClapArgs;
use journal::clock::SystemClock;
use recording::keys;
use recording::vault::Vault;
use types::clock::Clock as _;
use types::id::SessionId;

use crate::recordings::open;
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
    rewrap: Rewrap,
    #[command(flatten)]
    signing: signing::Args,
}

/// For whom sealed recordings are handed out as well.
#[derive(Debug, ClapArgs)]
struct Rewrap {
    /// The examiner's public key: the sessions' keys go into the kit, wrapped to it.
    #[arg(long = "rewrap-to", value_name = "FILE", requires = "key")]
    to: Option<PathBuf>,
    /// A private key that opens them.
    #[arg(long, value_name = "FILE", requires_all = ["to", "purpose"])]
    key: Option<PathBuf>,
    /// What for; it is recorded, and must not be empty.
    #[arg(long, value_name = "TEXT", requires = "key")]
    purpose: Option<String>,
    /// The vault of wrapped keys.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vestibule/recordings/keys")]
    vault: PathBuf,
}

impl Rewrap {
    /// The sessions' keys, wrapped anew; none where nobody is to open them.
    fn keys(&self, control: &Path, sessions: &[String]) -> Result<Vec<(String, Vec<u8>)>> {
        let Self { to, key, purpose, vault } = self;
        let (Some(to), Some(key)) = (to, key) else { return Ok(Vec::new()) };
        let (to, key) = (keys::read_public(to)?, keys::read_private(key)?);
        let vault = Vault::at(vault);
        let mut found = Vec::new();
        for session in sessions {
            let session: SessionId = session.parse()?;
            let entry = vault.find(session)?.rewrapped(&key, &to)?;
            open::note(control, &key, session, purpose.as_deref().unwrap_or_default())?;
            let (name, text) = entry.file()?;
            found.push((format!("recordings/keys/{}", name.display()), text));
        }
        Ok(found)
    }
}

pub(super) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    let Args { archive, sessions, out, rewrap, signing } = args;
    let keys = rewrap.keys(control, sessions)?;
    let now = SystemClock.now();
    let (archive, sessions) = (archive.clone(), sessions.clone());
    let options = Options { archive, sessions, out: out.clone(), now_us: now.unix_us, keys };
    let unsigned = kit::write(&options)?;
    let rows: Vec<String> =
        unsigned.rows.iter().map(|(table, rows)| format!("{rows} {table}")).collect();
    let (note, key) = signing.sign(control, Document::Kit, unsigned.manifest, now)?;
    unsigned.finish(&note, &key)?;
    println!("{}: {}", out.display(), rows.join(", "));
    println!("check it: python3 {}", out.join("verify.py").display());
    Ok(ExitCode::SUCCESS)
}
