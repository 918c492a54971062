//! `vestibule archive seal-secret`: opens the secret of a journal's seals, for audit.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use archive::seal_secret;
use clap::Args as ClapArgs;
use journal::sealing::Secret;
use recording::keys;
use recording::wrap::{self, Wrapped};
use serde::Deserialize;
use types::hex::hex;

/// Open the secret by which a host's journal is sealed between checkpoints (`[journal.seal]`), where audit works, not at the
/// host: `vestibule-verify --journal DIR --seal-secret FILE` checks the seals with it. Do it once, soon after the seals were
/// begun, and keep the file: what the host hands out later is worth what the host is worth then.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// What the host has of it, `state_dir/keys/NODE.seal-secret`; the records `log.sealing` have the same.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The private key of one to whom it was wrapped.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where to write it; mode 0600, and nothing may be there yet.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// What the host says of it.
#[derive(Deserialize)]
struct Told {
    node: String,
    epoch: u32,
    id: String,
    wrapped: Vec<Wrapped>,
}

pub(crate) fn run(Args { from, key, out }: &Args) -> Result<ExitCode> {
    let text = std::fs::read(from).with_context(|| from.display().to_string())?;
    let Told { node, epoch, id, wrapped } =
        serde_json::from_slice(&text).with_context(|| from.display().to_string())?;
    let key = keys::read_private(key)?;
    let secret = wrap::unwrap_secret(&wrapped, (&node, epoch), &key)?;
    let secret = Secret::new(*secret.expose());
    ensure!(hex(&secret.id()) == id, "{}: this is another secret's name", from.display());
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(out);
    let mut file = file.with_context(|| out.display().to_string())?;
    file.write_all(seal_secret::text(&secret).as_bytes())?;
    file.sync_all()?;
    println!("{}: checks the seals of the journal of {node}; keep it off the host", out.display());
    println!("its name in seals is {id}");
    Ok(ExitCode::SUCCESS)
}
