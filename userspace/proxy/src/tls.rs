//! TLS on both legs: certificates of the host's own authority towards agents, verification of the
//! real server towards targets.

mod agent;
mod counted;
mod target;

pub(crate) use self::agent::AcceptError;
pub use self::agent::AgentTls;
pub(crate) use self::counted::Counted;
pub use self::target::{Credentials, Roots, TargetTls, TargetTlsError, Verification, When};

use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};

use crate::targets::Protocol;

/// What PostgreSQL is called in ALPN (PostgreSQL 17, "SSL Session Encryption").
const POSTGRESQL: &[u8] = b"postgresql";

/// What a protocol is called in ALPN: of HTTP only what is spoken here (RFC 7301 §6).
fn alpn(protocol: Protocol) -> Vec<Vec<u8>> {
    let name: &[u8] = match protocol {
        Protocol::Postgresql => POSTGRESQL,
        Protocol::Http => b"http/1.1",
    };
    vec![name.to_vec()]
}

/// The one provider of cryptography, for both sides.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
