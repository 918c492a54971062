//! Addresses, each saying whose it is.

use std::fmt;
use std::net::SocketAddr;

/// Which leg of a session: towards the agent or towards the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The agent's leg.
    Downstream,
    /// The target's leg.
    Upstream,
}

impl Side {
    /// The other leg.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Downstream => Self::Upstream,
            Self::Upstream => Self::Downstream,
        }
    }
}

/// Where the agent's `connect()` wanted to go, before the kernel redirected it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrigDst(pub SocketAddr);

impl fmt::Display for OrigDst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
