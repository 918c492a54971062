//! The hosts file (hosts(5)): names that need no server.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

/// Names taken from a hosts file: 16,384 × about 200 B = 3 MiB; block lists are not for here.
const NAMES_MAX: usize = 16_384;

/// What a hosts file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    by_name: HashMap<Arc<str>, Vec<IpAddr>>,
    by_address: HashMap<IpAddr, Vec<Arc<str>>>,
}

impl Hosts {
    /// Reads a file; one that is not there says nothing.
    pub fn load(path: &Path) -> io::Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Parses a file's text; lines that say nothing are passed over, as the C library does.
    pub fn parse(text: &str) -> Self {
        let mut own = Self::default();
        for line in text.lines() {
            let line = line.split_once('#').map_or(line, |(line, _)| line);
            let mut words = line.split_whitespace();
            let Some(ip) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else {
                continue;
            };
            for name in words {
                if own.by_name.len() >= NAMES_MAX {
                    return own;
                }
                let name: Arc<str> = name.trim_end_matches('.').to_ascii_lowercase().into();
                own.by_name.entry(Arc::clone(&name)).or_default().push(ip);
                own.by_address.entry(ip).or_default().push(name);
            }
        }
        own
    }

    /// The addresses of a name (lower case, no final dot), if it is there.
    pub fn addresses(&self, name: &str) -> Option<&[IpAddr]> {
        self.by_name.get(name).map(Vec::as_slice)
    }

    /// The names of an address, in the file's order.
    pub fn names(&self, ip: IpAddr) -> &[Arc<str>] {
        self.by_address.get(&ip).map_or(&[], Vec::as_slice)
    }

    /// Every address with every name.
    pub fn pairs(&self) -> impl Iterator<Item = (IpAddr, Arc<str>)> + '_ {
        let all = self.by_address.iter();
        all.flat_map(|(ip, names)| names.iter().map(|name| (*ip, Arc::clone(name))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let hosts = Hosts::parse(
            "127.0.0.1 localhost\n::1\tlocalhost ip6-localhost # both\n# 10.0.0.9 no\n\
             10.0.0.1 DB.bank.example. db\n10.0.0.2 db.bank.example\nnonsense x\n\n",
        );
        let ips =
            |list: &[&str]| list.iter().map(|ip| ip.parse::<IpAddr>().unwrap()).collect::<Vec<_>>();
        assert_eq!(hosts.addresses("db.bank.example").unwrap(), ips(&["10.0.0.1", "10.0.0.2"]));
        assert_eq!(hosts.addresses("localhost").unwrap(), ips(&["127.0.0.1", "::1"]));
        assert_eq!(hosts.addresses("no"), None);
        assert_eq!(hosts.names("10.0.0.1".parse().unwrap()).len(), 2);
        assert_eq!(hosts.pairs().count(), 6);
    }
}
