//! Which destinations are targets, and which protocol each speaks.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use types::addr::OrigDst;
use types::target::Target;

use crate::tls::TargetTls;

/// The configured targets, first match wins.
#[derive(Clone, Debug, Default)]
pub struct Targets(Vec<Arc<TargetRule>>);

/// One configured target.
#[derive(Clone, Debug)]
pub struct TargetRule {
    /// Its name in policies and records.
    pub name: Arc<str>,
    /// Which destinations it covers.
    pub address: AddressPattern,
    /// What it speaks.
    pub protocol: Protocol,
    /// When with TLS, and how the server is verified.
    pub tls: TargetTls,
    /// After which time a catalog of its databases is read again.
    pub catalog_interval: Duration,
    /// Whether its servers are told whose session it is.
    pub marks_sessions: bool,
    /// What waits for records to be durable.
    pub ack: Ack,
}

/// What waits until a command's record is durable. Its answer always does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// What changes something, before it goes to the server.
    #[default]
    Wal,
    /// Of that, only what defines, is privileged, not known or approved: plain changes of data go to the server
    /// meanwhile, as reads do.
    Group,
}

/// The protocols that sessions exist for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// PostgreSQL's frontend/backend protocol.
    Postgresql,
    /// HTTP/1.1.
    Http,
}

impl Protocol {
    /// Its name in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgresql => "postgresql",
            Self::Http => "http",
        }
    }
}

impl Targets {
    /// Targets in the order in which they are tried.
    pub fn new(rules: Vec<TargetRule>) -> Self {
        Self(rules.into_iter().map(Arc::new).collect())
    }

    /// The target that covers a destination, which the agent knows by `names`, best first; and its
    /// rule.
    pub fn find(&self, addr: OrigDst, names: &[Arc<str>]) -> Option<(Target, Arc<TargetRule>)> {
        let found =
            self.0.iter().find_map(|rule| Some((rule, rule.address.covers(addr.0, names)?)));
        let (rule, host) = found?;
        let target = Target {
            name: Arc::clone(&rule.name),
            addr,
            host: host.or_else(|| names.first()).cloned(),
            protocol: rule.protocol.as_str(),
            database: None,
            account: None,
            tls: None,
            credential: None,
        };
        Some((target, Arc::clone(rule)))
    }

    /// The target of this name.
    pub(crate) fn named(&self, name: &str) -> Option<&TargetRule> {
        self.0.iter().map(AsRef::as_ref).find(|rule| *rule.name == *name)
    }

    /// The targets that are shown a certificate of ours, and when it expires.
    pub fn certificates(&self) -> impl Iterator<Item = (&Arc<str>, SystemTime)> {
        self.0.iter().filter_map(|rule| Some((&rule.name, rule.tls.expires()?)))
    }

    /// How the targets' addresses name a domain name (lower case, no final dot).
    pub fn mention(&self, name: &str) -> Mention {
        self.0.iter().map(|rule| rule.address.mention(name)).max().unwrap_or(Mention::None)
    }

    /// Whether a target's address is this very IP address, or a block that holds it.
    pub fn has_address(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|rule| match &rule.address.host {
            HostPattern::Network(network, bits) => {
                prefix(ip.to_canonical(), *bits) == prefix(*network, *bits)
            }
            HostPattern::Any | HostPattern::Name(_) | HostPattern::Below(_) => false,
        })
    }
}

/// How targets name a domain name, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mention {
    /// Not at all.
    None,
    /// By `*.` and a domain above it.
    Wildcard,
    /// In full.
    Exact,
}

/// `HOST:PORT`, where HOST is `*`, an IP address or a CIDR block (IPv6 in brackets), a domain name,
/// or `*.` and a domain name for all names below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPattern {
    host: HostPattern,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostPattern {
    Any,
    Network(IpAddr, u8),
    /// Lower case, no final dot.
    Name(Arc<str>),
    /// As above; covers names below it, not itself.
    Below(Arc<str>),
}

impl AddressPattern {
    /// Whether it covers a destination that the agent knows by `names`; if so, by which of them.
    /// IPv4-mapped IPv6 addresses count as IPv4.
    pub fn covers<'n>(
        &self,
        addr: SocketAddr,
        names: &'n [Arc<str>],
    ) -> Option<Option<&'n Arc<str>>> {
        if addr.port() != self.port {
            return None;
        }
        match &self.host {
            HostPattern::Any => Some(None),
            HostPattern::Network(network, bits) => {
                let own = prefix(addr.ip().to_canonical(), *bits);
                (own == prefix(*network, *bits)).then_some(None)
            }
            HostPattern::Name(_) | HostPattern::Below(_) => {
                names.iter().find(|name| self.mention(name) > Mention::None).map(Some)
            }
        }
    }

    fn mention(&self, name: &str) -> Mention {
        match &self.host {
            HostPattern::Name(own) if own.as_ref() == name => Mention::Exact,
            HostPattern::Below(domain) => {
                let below = name.strip_suffix(domain.as_ref()).and_then(|n| n.strip_suffix('.'));
                if below.is_some_and(|n| !n.is_empty()) { Mention::Wildcard } else { Mention::None }
            }
            HostPattern::Any | HostPattern::Network(..) | HostPattern::Name(_) => Mention::None,
        }
    }
}

impl FromStr for AddressPattern {
    type Err = InvalidAddress;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidAddress(s.to_owned());
        let (host, port) = s.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(invalid)?;
        Ok(Self { host: host_pattern(host).ok_or_else(invalid)?, port })
    }
}

fn host_pattern(host: &str) -> Option<HostPattern> {
    if host == "*" {
        return Some(HostPattern::Any);
    }
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let (ip, bits) = match bare.split_once('/') {
        Some((ip, bits)) => (ip, Some(bits)),
        None => (bare, None),
    };
    let Ok(ip) = ip.parse::<IpAddr>() else {
        return match host.strip_prefix("*.") {
            Some(domain) => Some(HostPattern::Below(domain_name(domain)?)),
            None => Some(HostPattern::Name(domain_name(host)?)),
        };
    };
    let width = if ip.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => width,
        Some(bits) => bits.parse().ok().filter(|b| *b <= width)?,
    };
    Some(HostPattern::Network(ip.to_canonical(), bits))
}

/// A host's name in lower case without the final dot: labels of 1 to 63 letters, digits, hyphens
/// and underscores (RFC 1123 §2.1), 253 bytes in all, the last one no number.
fn domain_name(name: &str) -> Option<Arc<str>> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let label = |label: &str| {
        let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(good)
    };
    let last_is_number = name.rsplit('.').next()?.bytes().all(|b| b.is_ascii_digit());
    (name.len() <= 253 && !last_is_number && name.split('.').all(label)).then(|| name.into())
}

/// An address pattern that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no address; write IP:PORT, [IPv6]:PORT, CIDR:PORT, NAME:PORT, *.NAME:PORT or *:PORT"
)]
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
            let covers = pattern.covers(addr.parse().unwrap(), &[]).is_some();
            assert_eq!(covers, covered, "{pattern:?} {addr}");
        }
    }

    #[test]
    fn names_cover_what_was_resolved_to() {
        for (pattern, names, by) in [
            ("db.bank.example:5432", &["db.bank.example"][..], Some("db.bank.example")),
            ("DB.Bank.Example.:5432", &["db.bank.example"], Some("db.bank.example")),
            ("db.bank.example:5432", &["x.example", "db.bank.example"], Some("db.bank.example")),
            ("db.bank.example:5432", &[], None),
            ("db.bank.example:5432", &["evildb.bank.example"], None),
            ("db.bank.example:5433", &["db.bank.example"], None),
            ("*.bank.example:5432", &["a.db.bank.example"], Some("a.db.bank.example")),
            ("*.bank.example:5432", &["bank.example"], None),
            ("*.bank.example:5432", &["evilbank.example"], None),
            ("*.bank.example:5432", &[".bank.example"], None),
        ] {
            let rule = TargetRule {
                name: "t".into(),
                address: pattern.parse().unwrap(),
                protocol: Protocol::Postgresql,
                tls: TargetTls::never(),
                catalog_interval: Duration::ZERO,
                marks_sessions: true,
                ack: Ack::Wal,
            };
            let names: Vec<Arc<str>> = names.iter().map(|n| Arc::from(*n)).collect();
            let addr = OrigDst("10.0.0.1:5432".parse().unwrap());
            let targets = Targets::new(vec![rule]);
            let found = targets.find(addr, &names);
            let host = found.map(|(target, _)| target.host.expect("the name that matched"));
            assert_eq!(host.as_deref(), by, "{pattern} {names:?}");
        }
    }

    #[test]
    fn what_is_mentioned() {
        let rule = |address: &str| TargetRule {
            name: "t".into(),
            address: address.parse().unwrap(),
            protocol: Protocol::Postgresql,
            tls: TargetTls::never(),
            catalog_interval: Duration::ZERO,
            marks_sessions: true,
            ack: Ack::Wal,
        };
        let targets = Targets::new(vec![
            rule("*.bank.example:5432"),
            rule("db.bank.example:5433"),
            rule("10.0.0.0/8:1"),
            rule("*:2"),
        ]);
        assert_eq!(targets.mention("db.bank.example"), Mention::Exact);
        assert_eq!(targets.mention("x.bank.example"), Mention::Wildcard);
        assert_eq!(targets.mention("bank.example"), Mention::None);
        assert!(targets.has_address("10.1.2.3".parse().unwrap()));
        assert!(!targets.has_address("11.1.2.3".parse().unwrap()));
    }

    #[test]
    fn nonsense_is_refused() {
        for pattern in [
            "",
            "5432",
            "host:0",
            "127.0.0.1:0",
            "10.0.0.0/33:1",
            "*:x",
            "*.*:1",
            "a..b:1",
            "a b:1",
            "256.0.0.1:1",
            "[db]:1",
            "*.:1",
        ] {
            assert!(pattern.parse::<AddressPattern>().is_err(), "{pattern}");
        }
    }
}
