//! Whom an agent acts for, as it is said when it is started.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args as ClapArgs;
use types::control::Whom;

/// Whom it acts for; without any of these, the person who logged in with `vestibule login` and starts it, where there is
/// one.
#[derive(Debug, ClapArgs)]
#[group(skip)]
pub(crate) struct Args {
    /// The file with the token (OpenID Connect, a JWT) of the person it acts for. It is read again when it changes;
    /// when the token ends, so do the agent's sessions.
    #[arg(long, value_name = "PATH")]
    pub(crate) token_file: Option<PathBuf>,
    /// The [[identity]] of the daemon's configuration that it acts as: the daemon has a token by credentials of its own
    /// and renews it; the agent never has it.
    #[arg(long = "as", value_name = "NAME", conflicts_with = "token_file")]
    pub(crate) identity: Option<String>,
    /// Who answers for the agent; a name for records and policies, which nothing proves. Whoever is logged in answers for
    /// it instead, proven.
    #[arg(long, value_name = "NAME")]
    pub(crate) owner: Option<String>,
}

impl Args {
    /// The same for the daemon.
    pub(crate) fn whom(&self) -> Result<Whom> {
        let Self { token_file, identity, owner } = self;
        let token_file = token_file.as_deref().map(std::path::absolute).transpose()?;
        let (identity, owner) = (identity.clone(), owner.clone());
        Ok(Whom { token_file, identity, owner, sudo_uid: sudo_uid()? })
    }
}

/// Who called sudo, where somebody did (sudo(8)).
pub(crate) fn sudo_uid() -> Result<Option<u32>> {
    let said = std::env::var("SUDO_UID").ok();
    said.map(|uid| uid.parse().context("SUDO_UID is no user id")).transpose()
}
