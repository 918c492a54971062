//! What carries a session's two legs: it is known before the first packet and does not change.
//!
//! TLS lies below a session; its driver takes the request for it and the handshake.

/// How the two legs are carried; in clear by default.
#[derive(Clone, Debug, Default)]
pub struct Transport {
    /// Towards the agent.
    pub downstream: Leg,
    /// Towards the server.
    pub upstream: Leg,
}

/// How one leg is carried.
#[derive(Clone, Debug, Default)]
pub enum Leg {
    /// In clear.
    #[default]
    Plain,
    /// Inside TLS.
    Tls {
        /// The hash that binds an authentication to this channel (RFC 5929 §4, `tls-server-end-point`):
        /// of our certificate downstream, of the server's upstream. None where its certificate's
        /// signature algorithm defines none.
        end_point: Option<Box<[u8]>>,
    },
}

impl Leg {
    /// Whether it is inside TLS.
    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls { .. })
    }
}
