//! The person that agents act for, by a token of a real provider.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use integration::Daemon;
use integration::idp::{ALICE, CLIENT, Idp, RESOURCES};
use tempfile::TempDir;

/// How long the token stands: longer than any run.
const TOKEN_SECONDS: u64 = 86_400;

/// A person who is logged in.
pub(crate) struct Person {
    provider: Idp,
    folder: TempDir,
}

impl Person {
    /// Starts the provider, and has somebody log in.
    pub(crate) fn new() -> Result<Self> {
        let provider = Idp::start()?;
        provider.set_seconds(TOKEN_SECONDS)?;
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let tokens = provider.login(ALICE)?;
        fs::write(folder.path().join("token"), tokens.access.as_bytes()).context("the token")?;
        Ok(Self { provider, folder })
    }

    /// What a daemon is to know of the provider.
    pub(crate) fn settings(&self) -> String {
        let issuer = self.provider.issuer();
        let [audience, ..] = RESOURCES;
        format!("[[issuer]]\nurl = '{issuer}'\naudiences = ['{audience}', '{CLIENT}']\n")
    }

    /// The start of a command that runs as an agent of the person's.
    pub(crate) fn agent(&self, daemon: &Daemon, name: &str) -> Command {
        let mut command = daemon.cli();
        command.args(["run", "--agent", name, "--token-file"]);
        command.arg(self.folder.path().join("token")).arg("--");
        command
    }
}
