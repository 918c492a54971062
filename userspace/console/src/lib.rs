//! The console: pages and an API for people who approve, and for whoever watches over agents.
//!
//! Open [`routes`] first. Pages are made on the server; a person signs in at an issuer and has a visit
//! ([`visits`]), from which every request is judged ([`signed`]). What a host or a hub has to show is behind
//! [`approval::desk::Desk`], [`Surroundings`] and [`People`]. The console decides nothing about approvals, keeps no
//! record of its own, and trusts nothing that a browser sends.

mod api;
mod assets;
mod cookies;
mod headers;
mod html;
pub mod issuer;
mod lexer;
mod pages;
pub mod people;
mod random;
mod rates;
mod refusal;
mod routes;
mod serve;
mod signed;
mod state;
pub mod surroundings;
mod times;
mod tls;
mod visits;

use std::path::Path;
use std::sync::Arc;

pub use people::People;
pub use state::{Api, Options, Parts};
pub use surroundings::Surroundings;
pub use tls::TlsError;
pub use visits::Life;

use crate::state::State;
use crate::tls::Tls;

/// A console, not yet listening: see [`Console::serve`].
pub struct Console {
    state: Arc<State>,
    tls: Option<Tls>,
}

/// Why there is no console.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// It is no address of a console.
    #[error(
        "the external URL is https://HOST or https://HOST:PORT; http only on 127.0.0.1, ::1 or localhost"
    )]
    ExternalUrl,
    /// Nobody could look.
    #[error("groups: nobody may look at the console")]
    Groups,
    /// There is no TLS.
    #[error("TLS")]
    Tls(#[from] TlsError),
}

impl Console {
    /// A console of these parts.
    ///
    /// # Errors
    /// If what it is told can't be meant.
    pub fn new(options: Options, parts: Parts) -> Result<Self, ConsoleError> {
        Ok(Self { state: Arc::new(State::new(options, parts)?), tls: None })
    }

    /// The same, speaking TLS itself, with a certificate and its key, both PEM.
    ///
    /// # Errors
    /// If they can't be used.
    pub fn with_tls(mut self, certificate: &Path, key: &Path) -> Result<Self, ConsoleError> {
        self.tls = Some(Tls::open(certificate, key, self.state.now())?);
        Ok(self)
    }
}

/// Says whether options can be meant, without the parts.
///
/// # Errors
/// If not.
pub fn check(options: &Options) -> Result<(), ConsoleError> {
    state::check(options).map(drop)
}
