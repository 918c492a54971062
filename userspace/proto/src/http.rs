//! HTTP/1.1 requests: what each asks for, before any of it goes up.
//!
//! Who takes messages apart and writes them is the driver's library. Here is what that leaves open: heads that two
//! readers would read differently ([`head`]), paths with more than one reading, which parts of them are names and
//! which are values ([`target`]); where messages begin and end in what was said ([`messages`]), and what of that may be
//! kept ([`pieces`]).

#[doc(hidden)]
pub mod fuzz;
pub mod head;
pub mod media;
pub mod messages;
pub mod pieces;
mod secrets;
mod target;
mod template;
#[cfg(test)]
mod tests;

pub use self::target::{Asked, read};

/// Why a request is refused before policy is asked. None of it holds anything of the request's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It came before the one before it was answered, so its head can't be looked at.
    #[error("requests are answered one at a time: wait for the answer before the next one")]
    Pipelined,
    /// Its head is not written as RFC 9112 has it.
    #[error("the request's head is malformed")]
    Head,
    /// Its length is said twice, or by an encoding other than `chunked` (RFC 9112 §6.3).
    #[error("the request's length can be read in two ways")]
    Framing,
    /// It names no host, or more than one, or its own target contradicts it.
    #[error("the request must name one host")]
    Host,
    /// The host that it names is not the target that the connection goes to.
    #[error("the host that the request names is no name of this target")]
    Misdirected,
    /// What it asks for is no path.
    #[error("the request's target is no path")]
    Target,
    /// Its path is too long, or has more than one reading.
    #[error("the request's path is too long or can be read in two ways")]
    Path,
    /// Its query is too long.
    #[error("the request's query is too long")]
    Query,
    /// It asks for another protocol on this connection.
    #[error(
        "other protocols on an HTTP connection (Upgrade, WebSocket, CONNECT) are not supported"
    )]
    Upgrade,
    /// Its method has the server repeat the request, or is none.
    #[error("the method is not supported")]
    Method,
    /// It expects something other than `100-continue`.
    #[error("the expectation is not supported")]
    Expect,
    /// It is not HTTP/1.1.
    #[error("only HTTP/1.1 is supported")]
    Version,
}

impl Refused {
    /// The status that it is answered with (RFC 9110 §15).
    pub fn status(self) -> u16 {
        match self {
            Self::Pipelined
            | Self::Head
            | Self::Framing
            | Self::Host
            | Self::Target
            | Self::Path => 400,
            Self::Query => 414,
            Self::Expect => 417,
            Self::Misdirected => 421,
            Self::Upgrade | Self::Method => 501,
            Self::Version => 505,
        }
    }

    /// Whether where the next request begins is not known for sure.
    pub fn ends(self) -> bool {
        matches!(self, Self::Pipelined | Self::Head | Self::Framing | Self::Version)
    }
}
