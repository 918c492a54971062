//! Whose an address is: agents and targets by address, network and port.
//!
//! ```toml
//! [[agent]]
//! name = "support-assistant"
//! addresses = ["10.1.2.0/24", "10.1.3.4:40001"]
//! owner = "ann@bank.example"
//!
//! [[target]]
//! name = "bank"
//! addresses = ["10.9.0.5:5432"]
//! ```

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;
use types::id::AgentName;

/// The agent of an address that is in no map.
pub const UNMAPPED: &str = "unmapped";

/// Addresses of one map: each connection is looked up once among 65,536 × about 64 B = 4 MiB.
const ADDRESSES_MAX: usize = 65_536;

/// Whose addresses are.
#[derive(Clone, Debug, Default)]
pub struct Map {
    agents: Vec<(Pattern, Arc<Agent>)>,
    targets: Vec<(Pattern, Arc<str>)>,
}

/// Who acts from an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// The agent.
    pub name: AgentName,
    /// Who answers for it.
    pub owner: Option<Arc<str>>,
}

/// Why a map is refused.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// Not TOML, or a field that is not known.
    #[error("the map is not right: {0}")]
    Syntax(#[source] Box<toml::de::Error>),
    /// An address is none.
    #[error(
        "the map has an address that is none: {0:?} (such as 10.1.2.3, 10.1.0.0/16, 10.1.2.3:5432, [fd00::/8]:5432)"
    )]
    Address(String),
    /// Two entries are of one address.
    #[error("the map says twice whose {0} is")]
    Twice(String),
    /// A name stands for what is in no map.
    #[error("the map has an agent called `unmapped`: that is who is in no map")]
    Reserved,
    /// More than are looked up.
    #[error("the map has more than 65,536 addresses")]
    TooMany,
}

/// An address or a network, and a port of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pattern {
    network: IpAddr,
    bits: u8,
    port: Option<u16>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    agent: Vec<AgentEntry>,
    #[serde(default)]
    target: Vec<TargetEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentEntry {
    name: AgentName,
    addresses: Vec<String>,
    owner: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetEntry {
    name: String,
    addresses: Vec<String>,
}

impl Map {
    /// Reads a map.
    ///
    /// # Errors
    /// Anything unknown, twice or beyond the bounds is refused.
    pub fn parse(text: &str) -> Result<Self, MapError> {
        let Document { agent, target } =
            toml::from_str(text).map_err(|error| MapError::Syntax(Box::new(error)))?;
        let mut map = Self::default();
        for AgentEntry { name, addresses, owner } in agent {
            if name.as_str() == UNMAPPED {
                return Err(MapError::Reserved);
            }
            let agent = Arc::new(Agent { name, owner: owner.map(Into::into) });
            for address in addresses {
                add(&mut map.agents, &address, Arc::clone(&agent))?;
            }
        }
        for TargetEntry { name, addresses } in target {
            let name: Arc<str> = name.into();
            for address in addresses {
                add(&mut map.targets, &address, Arc::clone(&name))?;
            }
        }
        // The most specific first: a port, then the smaller network.
        let rank = |pattern: &Pattern| (pattern.port.is_none(), u8::MAX - pattern.bits);
        map.agents.sort_by_key(|(pattern, _)| rank(pattern));
        map.targets.sort_by_key(|(pattern, _)| rank(pattern));
        Ok(map)
    }

    /// Who acts from an address; `None` where no entry says so.
    pub fn agent(&self, client: SocketAddr) -> Option<&Arc<Agent>> {
        find(&self.agents, client)
    }

    /// What is reached at an address; `None` where no entry says so.
    pub fn target(&self, server: SocketAddr) -> Option<&Arc<str>> {
        find(&self.targets, server)
    }
}

fn add<T>(all: &mut Vec<(Pattern, T)>, address: &str, whose: T) -> Result<(), MapError> {
    let pattern: Pattern =
        address.parse().map_err(|NoPattern| MapError::Address(address.to_owned()))?;
    if all.len() >= ADDRESSES_MAX {
        return Err(MapError::TooMany);
    }
    if all.iter().any(|(known, _)| *known == pattern) {
        return Err(MapError::Twice(address.to_owned()));
    }
    all.push((pattern, whose));
    Ok(())
}

fn find<T>(all: &[(Pattern, T)], address: SocketAddr) -> Option<&T> {
    all.iter().find(|(pattern, _)| pattern.has(address)).map(|(_, whose)| whose)
}

/// Not an address.
struct NoPattern;

impl FromStr for Pattern {
    type Err = NoPattern;

    fn from_str(text: &str) -> Result<Self, NoPattern> {
        let (network, port) = split_port(text)?;
        let (network, bits) = match network.split_once('/') {
            Some((network, bits)) => (network, Some(bits.parse::<u8>().map_err(|_| NoPattern)?)),
            None => (network, None),
        };
        let network: IpAddr = network.parse().map_err(|_| NoPattern)?;
        let most = if network.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        let pattern = Self { network, bits, port };
        // Bits behind a network's own are a slip.
        (bits <= most && masked(network, bits) == number(network))
            .then_some(pattern)
            .ok_or(NoPattern)
    }
}

impl Pattern {
    fn has(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        ip.is_ipv4() == self.network.is_ipv4()
            && masked(ip, self.bits) == number(self.network)
            && self.port.is_none_or(|port| port == address.port())
    }
}

/// Splits `address:port`, `[address]:port`.
fn split_port(text: &str) -> Result<(&str, Option<u16>), NoPattern> {
    let port = |text: &str| text.parse::<u16>().map(Some).map_err(|_| NoPattern);
    if let Some(rest) = text.strip_prefix('[') {
        let (network, rest) = rest.split_once(']').ok_or(NoPattern)?;
        return match rest.strip_prefix(':') {
            Some(number) => Ok((network, port(number)?)),
            None if rest.is_empty() => Ok((network, None)),
            None => Err(NoPattern),
        };
    }
    match text.split_once(':') {
        Some((network, number)) if !number.contains(':') => Ok((network, port(number)?)),
        _ => Ok((text, None)),
    }
}

/// An address as a number, its first bit the highest of 128.
fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn masked(ip: IpAddr, bits: u8) -> u128 {
    let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
    number(ip) & mask
}
