//! What a certificate vouches for.

use std::fmt;
use std::net::IpAddr;

/// A server's name, as clients know it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// A domain name in lower case, without a final dot.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl Name {
    /// The name in text, an address where it is one.
    pub fn new(text: &str) -> Self {
        let bare = text.strip_suffix('.').unwrap_or(text);
        match bare.parse::<IpAddr>() {
            Ok(ip) => Self::Ip(ip.to_canonical()),
            Err(_) => Self::Dns(bare.to_ascii_lowercase()),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}
