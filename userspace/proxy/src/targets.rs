//! Which destinations are targets, and which protocol each speaks.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use types::addr::OrigDst;
use types::target::Target;

/// The configured targets, first match wins.
#[derive(Clone, Debug, Default)]
pub struct Targets(Vec<TargetRule>);

/// One configured target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetRule {
    /// Its name in policies and records.
    pub name: Arc<str>,
    /// Which destinations it covers.
    pub address: AddressPattern,
    /// What it speaks.
    pub protocol: Protocol,
}

/// The protocols that sessions exist for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// PostgreSQL's frontend/backend protocol.
    Postgresql,
}

impl Protocol {
    /// Its name in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgresql => "postgresql",
        }
    }
}

impl Targets {
    /// Targets in the order in which they are tried.
    pub fn new(rules: Vec<TargetRule>) -> Self {
        Self(rules)
    }

    /// The target that covers a destination.
    pub fn find(&self, addr: OrigDst) -> Option<(Target, Protocol)> {
        let rule = self.0.iter().find(|rule| rule.address.covers(addr.0))?;
        let target = Target {
            name: Arc::clone(&rule.name),
            addr,
            protocol: rule.protocol.as_str(),
            database: None,
            account: None,
        };
        Some((target, rule.protocol))
    }
}

/// `HOST:PORT`, where HOST is `*`, an IP address or a CIDR block; IPv6 hosts in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPattern {
    host: Option<(IpAddr, u8)>,
    port: u16,
}

impl AddressPattern {
    /// Whether it covers a destination. IPv4-mapped IPv6 addresses count as IPv4.
    pub fn covers(&self, addr: SocketAddr) -> bool {
        let Some((network, bits)) = self.host else { return addr.port() == self.port };
        addr.port() == self.port && prefix(addr.ip().to_canonical(), bits) == prefix(network, bits)
    }
}

impl FromStr for AddressPattern {
    type Err = InvalidAddress;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidAddress(s.to_owned());
        let (host, port) = s.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(invalid)?;
        if host == "*" {
            return Ok(Self { host: None, port });
        }
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let (ip, bits) = match host.split_once('/') {
            Some((ip, bits)) => (ip, Some(bits)),
            None => (host, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| invalid())?;
        let width = if ip.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => width,
            Some(bits) => bits.parse().ok().filter(|b| *b <= width).ok_or_else(invalid)?,
        };
        Ok(Self { host: Some((ip.to_canonical(), bits)), port })
    }
}

/// An address pattern that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address; write IP:PORT, [IPv6]:PORT, CIDR:PORT or *:PORT")]
pub struct InvalidAddress(String);

/// The first `bits` of an address, so that equal networks compare equal.
fn prefix(ip: IpAddr, bits: u8) -> (bool, u128) {
    let (width, value) = match ip {
        IpAddr::V4(v4) => (32, u128::from(u32::from(v4))),
        IpAddr::V6(v6) => (128, u128::from(v6)),
    };
    let dropped = 128_u32.min(width - u32::from(bits).min(width));
    (ip.is_ipv4(), value.checked_shr(dropped).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, addr, covered) in [
            ("127.0.0.1:5432", "127.0.0.1:5432", true),
            ("127.0.0.1:5432", "127.0.0.1:5433", false),
            ("127.0.0.1:5432", "[::ffff:127.0.0.1]:5432", true),
            ("*:5432", "[2001:db8::5]:5432", true),
            ("10.0.0.0/8:5432", "10.9.8.7:5432", true),
            ("10.0.0.0/8:5432", "11.9.8.7:5432", false),
            ("0.0.0.0/0:5432", "11.9.8.7:5432", true),
            ("0.0.0.0/0:5432", "[2001:db8::5]:5432", false),
            ("[2001:db8::/32]:443", "[2001:db8:1::5]:443", true),
            ("[2001:db8::5]:443", "[2001:db8::6]:443", false),
        ] {
            let pattern: AddressPattern = pattern.parse().unwrap();
            assert_eq!(pattern.covers(addr.parse().unwrap()), covered, "{pattern:?} {addr}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for pattern in ["", "5432", "host:5432", "127.0.0.1:0", "10.0.0.0/33:1", "*:x"] {
            assert!(pattern.parse::<AddressPattern>().is_err(), "{pattern}");
        }
    }
}
