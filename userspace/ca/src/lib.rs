//! The host's own certificate authority: what lets vestibule stand between an agent and a server
//! that speak TLS.
//!
//! Its key never leaves the host, or the token that holds it, and its certificate says for which names it may be used (RFC 5280
//! §4.2.1.10): who steals the key can stand in for the bank's targets, not for the rest of the world.

mod authority;
mod end_point;
mod expiry;
mod key;
mod leaf;
mod name;
mod permit;
mod token;

pub use self::authority::{Authority, CERTIFICATE_FILE, KEY_FILE, Request, TOKEN_FILE};
pub use self::end_point::end_point;
pub use self::expiry::expiry;
pub use self::leaf::Leaf;
pub use self::name::Name;
pub use self::permit::{Permit, Permits};
pub use ::token::{InvalidUri, TokenError, TokenUri};

use std::path::PathBuf;

/// Why there is no authority, or no certificate of it.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// There is one already, and it is not replaced.
    #[error("there is a certificate authority already: {}", .0.display())]
    Exists(PathBuf),
    /// There is none.
    #[error("there is no certificate authority in {}; make one with `vestibule ca init`", .0.display())]
    Absent(PathBuf),
    /// The system refused.
    #[error("{action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Others may read the key.
    #[error("{} is open to others (mode {mode:o}, owner {owner}); it must be root's with mode 600", path.display())]
    Open {
        /// The key.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// Its owner's uid.
        owner: u32,
    },
    /// The token that holds the key can't be used.
    #[error("the token of the certificate authority's key")]
    Token(#[from] TokenError),
    /// A file does not hold what it should.
    #[error("{} holds {what}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The authority may not vouch for this name.
    #[error(
        "the certificate authority is not for {0}; `vestibule ca init --permit` says for what it is"
    )]
    NotPermitted(Name),
    /// The authority's certificate is not valid now.
    #[error("the certificate authority expired or is not valid yet; `vestibule ca show` says when")]
    Expired,
    /// No random bytes.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
    /// The library refused.
    #[error("a certificate could not be made")]
    Sign(#[source] rcgen::Error),
}
