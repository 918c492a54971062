//! Having a document signed: by the daemon with the node's key, which stays there, or by a key in a file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use archive::attest::{Attestation, Document};
use archive::key::Signer;
use clap::Args as ClapArgs;
use types::clock::Timestamp;
use types::control::{Request, Response};
use types::hex::hex;

use crate::control;

/// The archiver may be sealing: as long as a seal may take.
const PATIENCE: Duration = Duration::from_mins(10);

/// By whom.
#[derive(Debug, ClapArgs)]
#[group(skip)]
pub(crate) struct Args {
    /// Sign with the Ed25519 key in this file (32 bytes) in the place of the daemon, which is not asked then.
    #[arg(long, value_name = "FILE")]
    sign_key: Option<PathBuf>,
}

impl Args {
    /// The signed note of what the document is, and the public key's line.
    pub(crate) fn sign(
        &self,
        control: &Path,
        document: Document,
        sha256: [u8; 32],
        now: Timestamp,
    ) -> Result<(String, String)> {
        let Some(file) = &self.sign_key else {
            let request =
                Request::Attest { document: document.as_str().into(), sha256: hex(&sha256) };
            let asked = control::ask(control, &request, PATIENCE);
            let Response::Attested { note, key } =
                asked.context("not signed; --sign-key FILE signs without the daemon")?
            else {
                bail!("the daemon's answer is not about signing");
            };
            return Ok((note, key));
        };
        let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        // What a key's name may be (C2SP signed-note): no space, no plus.
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
        let name: String = stem.chars().map(plain).collect();
        let signer = Signer::load(file, &format!("vestibule/signer/{name}"))?;
        let note = signer.attest(&Attestation { document, sha256, at_us: now.unix_us })?;
        Ok((note, signer.public().line()))
    }
}
