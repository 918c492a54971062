//! Towards agents: a certificate for the server they asked for, by the host's own authority.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use ca::{Authority, CaError, Leaf, Name};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::server::Acceptor;
use tokio_rustls::rustls::{Error, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::targets::Protocol;
use crate::tls::{POSTGRESQL, alpn, provider};

/// Names with a certificate ready, each for a protocol: 1,024 of about 4 KiB = 4 MiB. Beyond that all are minted anew.
const READY_MAX: usize = 1_024;

/// Offers TLS to agents, if there is an authority.
#[derive(Debug, Default)]
pub struct AgentTls {
    authority: Option<Authority>,
    ready: Mutex<HashMap<(Vec<Name>, Protocol), Ready>>,
}

#[derive(Clone, Debug)]
struct Ready {
    leaf: Arc<Leaf>,
    config: Arc<ServerConfig>,
}

/// What an agent's ClientHello asks for, before anything was answered.
pub(crate) struct Offer<S> {
    start: tokio_rustls::StartHandshake<S>,
}

impl AgentTls {
    /// Offers certificates of this authority; without one, none.
    pub fn new(authority: Option<Authority>) -> Self {
        Self { authority, ready: Mutex::default() }
    }

    /// Whether agents are offered TLS.
    pub fn is_offered(&self) -> bool {
        self.authority.is_some()
    }

    /// Reads the agent's ClientHello.
    pub(crate) async fn hear<S>(&self, stream: S) -> io::Result<Offer<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        Ok(Offer { start })
    }

    /// A certificate for the first of `names` that the authority is for, and for the others.
    fn ready(
        &self,
        names: &[Name],
        now: SystemTime,
        protocol: Protocol,
    ) -> Result<Ready, AcceptError> {
        let refused = || CaError::NotPermitted(names.first().cloned().unwrap_or(Name::new("")));
        let authority = self.authority.as_ref().ok_or_else(refused)?;
        let covered = |name: &&Name| authority.permits().covers(name);
        let names: Vec<Name> = names.iter().filter(covered).cloned().collect();
        if names.is_empty() {
            return Err(refused().into());
        }
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let named = (names, protocol);
        if let Some(known) = ready.get(&named)
            && known.leaf.is_fresh(now)
        {
            return Ok(known.clone());
        }
        let leaf = Arc::new(authority.mint(&named.0, now)?);
        let minted = Ready { config: Arc::new(config(&leaf, protocol)?), leaf };
        if ready.len() >= READY_MAX {
            ready.clear();
        }
        ready.insert(named, minted.clone());
        Ok(minted)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Offer<S> {
    /// The server's name as the agent gave it (SNI).
    pub(crate) fn server_name(&self) -> Option<String> {
        self.start.client_hello().server_name().map(str::to_owned)
    }

    /// Whether the agent names PostgreSQL as what it will speak, which direct TLS must.
    pub(crate) fn names_postgresql(&self) -> bool {
        self.start
            .client_hello()
            .alpn()
            .is_some_and(|mut named| named.any(|name| name == POSTGRESQL))
    }

    /// Completes the handshake for a protocol with a certificate for these names, valid at `now`; answers the certificate as well.
    pub(crate) async fn accept(
        self,
        tls: &AgentTls,
        names: &[Name],
        now: SystemTime,
        protocol: Protocol,
    ) -> Result<(TlsStream<S>, Arc<Leaf>), AcceptError> {
        let ready = tls.ready(names, now, protocol)?;
        let stream = self.start.into_stream(ready.config).await?;
        Ok((stream, ready.leaf))
    }
}

/// Why an agent's handshake was not completed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcceptError {
    /// There is no certificate for the server.
    #[error(transparent)]
    Certificate(#[from] CaError),
    /// The certificate is of no use to the library.
    #[error(transparent)]
    Library(#[from] Error),
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] io::Error),
}

fn config(leaf: &Leaf, protocol: Protocol) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.certificate.clone()], leaf.key.clone_key())?;
    config.alpn_protocols = alpn(protocol);
    Ok(config)
}
