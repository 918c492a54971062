//! Name constraints: for which names the authority may be used.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints};
use x509_parser::extensions::{GeneralName, NameConstraints as Read};

use crate::Name;

/// A domain with all below it, or a block of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permit {
    /// A domain name in lower case: itself and what is below it.
    Domain(String),
    /// Addresses that share these first bits.
    Network(IpAddr, u8),
}

impl Permit {
    /// Whether a name is within.
    pub fn covers(&self, name: &Name) -> bool {
        match (self, name) {
            (Self::Domain(domain), Name::Dns(name)) => name
                .strip_suffix(domain.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
            (Self::Network(network, bits), Name::Ip(ip)) => same_network(*network, *ip, *bits),
            _ => false,
        }
    }

    fn subtree(&self) -> GeneralSubtree {
        match self {
            Self::Domain(domain) => GeneralSubtree::DnsName(domain.clone()),
            Self::Network(ip, bits) => {
                GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(*ip, *bits))
            }
        }
    }

    fn read(name: &GeneralName<'_>) -> Option<Self> {
        match name {
            GeneralName::DNSName(domain) => Some(Self::Domain(domain.to_ascii_lowercase())),
            GeneralName::IPAddress(bytes) => {
                let (address, mask) = bytes.split_at_checked(bytes.len() / 2)?;
                let bits =
                    u8::try_from(mask.iter().map(|byte| byte.count_ones()).sum::<u32>()).ok()?;
                let ip = match <[u8; 4]>::try_from(address) {
                    Ok(v4) => IpAddr::from(v4),
                    Err(_) => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
                };
                Some(Self::Network(ip, bits))
            }
            _ => None,
        }
    }
}

impl FromStr for Permit {
    type Err = InvalidPermit;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidPermit(s.to_owned());
        let (host, bits) = match s.split_once('/') {
            Some((host, bits)) => (host, Some(bits.parse::<u8>().map_err(|_| invalid())?)),
            None => (s, None),
        };
        match (host.parse::<IpAddr>(), bits) {
            (Ok(ip), bits) => {
                let width = if ip.is_ipv4() { 32 } else { 128 };
                let bits = bits.unwrap_or(width);
                (bits <= width).then_some(Self::Network(ip, bits)).ok_or_else(invalid)
            }
            (Err(_), None) => {
                let domain = host.strip_prefix("*.").unwrap_or(host);
                let domain = domain.strip_suffix('.').unwrap_or(domain).to_ascii_lowercase();
                let label = |label: &str| {
                    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
                    (1..=63).contains(&label.len()) && label.bytes().all(good)
                };
                let good = domain.len() <= 253 && domain.split('.').all(label);
                good.then_some(Self::Domain(domain)).ok_or_else(invalid)
            }
            (Err(_), Some(_)) => Err(invalid()),
        }
    }
}

impl fmt::Display for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(domain) => f.write_str(domain),
            Self::Network(ip, bits) => write!(f, "{ip}/{bits}"),
        }
    }
}

/// Not a name, nor addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a domain name nor addresses (IP or IP/BITS)")]
pub struct InvalidPermit(String);

/// All that an authority may be used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permits {
    /// Any name.
    Any,
    /// These.
    Only(Vec<Permit>),
}

impl Permits {
    /// Whether a name is within.
    pub fn covers(&self, name: &Name) -> bool {
        match self {
            Self::Any => true,
            Self::Only(permits) => permits.iter().any(|permit| permit.covers(name)),
        }
    }

    /// As the certificate says it. A kind of name of which none is permitted is excluded as a
    /// whole: what a certificate does not speak of is not constrained (RFC 5280 §4.2.1.10).
    pub(crate) fn constraints(&self) -> Option<NameConstraints> {
        let Self::Only(permits) = self else { return None };
        let mut excluded = Vec::new();
        if !permits.iter().any(|permit| matches!(permit, Permit::Domain(_))) {
            excluded.push(GeneralSubtree::DnsName(String::new()));
        }
        if !permits.iter().any(|permit| matches!(permit, Permit::Network(..))) {
            excluded.push(GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([0; 4], 0)));
            excluded.push(GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix([0; 16], 0)));
        }
        let permitted_subtrees = permits.iter().map(Permit::subtree).collect();
        Some(NameConstraints { permitted_subtrees, excluded_subtrees: excluded })
    }

    /// As a certificate has it.
    pub(crate) fn read(constraints: Option<&Read<'_>>) -> Self {
        let Some(constraints) = constraints else { return Self::Any };
        let subtrees = constraints.permitted_subtrees.iter().flatten();
        Self::Only(subtrees.filter_map(|subtree| Permit::read(&subtree.base)).collect())
    }
}

fn same_network(network: IpAddr, ip: IpAddr, bits: u8) -> bool {
    let (a, b, width) = match (network, ip) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    let dropped: u32 = width - u32::from(bits).min(width);
    (a ^ b).checked_shr(dropped).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_covered() {
        for (permit, name, covered) in [
            ("bank.example", "bank.example", true),
            ("bank.example", "db.bank.example.", true),
            ("*.Bank.example", "DB.bank.example", true),
            ("bank.example", "evilbank.example", false),
            ("bank.example", "10.0.0.1", false),
            ("10.0.0.0/8", "10.9.8.7", true),
            ("10.0.0.0/8", "11.9.8.7", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("0.0.0.0/0", "203.0.113.7", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:1::5", true),
        ] {
            let parsed: Permit = permit.parse().unwrap();
            assert_eq!(parsed.covers(&Name::new(name)), covered, "{permit} {name}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "a..b", "10.0.0.0/33", "x/8", "a b", "*", "::/129"] {
            assert!(text.parse::<Permit>().is_err(), "{text}");
        }
    }
}
