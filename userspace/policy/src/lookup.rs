//! Deciding lookups of names: `resolve` for where a name is, `resolveData` for records that carry
//! free data.
//!
//! The facts about a name are computed here, so that every policy judges the same ones.

use std::sync::Arc;

use types::command::Action;

/// One lookup, as policies see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The name, lower case, without the final dot; `.` for the root.
    pub name: Arc<str>,
    /// The record type's mnemonic (`A`, `TXT`), or `TYPE` and its number (RFC 3597 §5).
    pub record_type: Arc<str>,
    /// [`Action::Resolve`] or [`Action::ResolveData`].
    pub action: Action,
    /// Whether a target's address names it, by a wildcard or in full.
    pub is_target: bool,
    /// Whether a target's address or the hosts file names it in full.
    pub is_listed: bool,
    /// The server that the agent asked: an IP address.
    pub server: Arc<str>,
    /// `udp` or `tcp`.
    pub transport: &'static str,
}

/// The action of looking up a record type, by its mnemonic: only types that say where something is
/// are [`Action::Resolve`]; any other can carry anything.
pub fn action(record_type: &str) -> Action {
    if PLACES.contains(&record_type) { Action::Resolve } else { Action::ResolveData }
}

/// RFC 1035 §3.2.2, RFC 3596, RFC 2782, RFC 9460.
const PLACES: [&str; 10] = ["A", "AAAA", "CNAME", "PTR", "SRV", "MX", "NS", "SOA", "HTTPS", "SVCB"];

/// What can be told from a name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Letters, digits, hyphens and underscores only: hosts (RFC 952) and services (RFC 2782).
    pub(crate) is_hostname: bool,
    /// Labels.
    pub(crate) labels: i64,
    /// Bytes of its longest label.
    pub(crate) longest_label: i64,
    /// Bytes of the whole.
    pub(crate) bytes: i64,
    /// The highest Shannon entropy of a label, hundredths of a bit a character.
    pub(crate) entropy: i64,
}

impl Shape {
    /// The shape of a name.
    pub(crate) fn of(name: &str) -> Self {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        Self {
            is_hostname: name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)),
            labels: count(labels(name).count()),
            longest_label: count(labels(name).map(str::len).max().unwrap_or(0)),
            bytes: count(name.len()),
            entropy: labels(name).map(entropy).max().unwrap_or(0),
        }
    }
}

/// The names above one, nearest first: `bank.example` and `example` for `db.bank.example`.
pub(crate) fn above(name: &str) -> impl Iterator<Item = &str> {
    let mut rest = name;
    std::iter::from_fn(move || {
        let (_, parent) = rest.split_once('.').filter(|(_, parent)| !parent.is_empty())?;
        rest = parent;
        Some(parent)
    })
}

fn labels(name: &str) -> impl Iterator<Item = &str> {
    name.split('.').filter(|label| !label.is_empty())
}

/// Shannon's entropy in hundredths of a bit a character: 0 for `aaaa`, 500 for 32 different ones.
#[expect(clippy::cast_possible_truncation, reason = "between 0 and 800, as there are 256 bytes")]
fn entropy(label: &str) -> i64 {
    let mut counts = [0_u32; 256];
    for byte in label.bytes() {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count += 1;
        }
    }
    let total = f64::from(counts.iter().sum::<u32>().max(1));
    let bits = |count: &u32| {
        let share = f64::from(*count) / total;
        -share * share.log2()
    };
    let sum: f64 = counts.iter().filter(|count| **count > 0).map(bits).sum();
    (sum * 100.0).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        for (name, is_hostname, labels, longest_label, entropy) in [
            ("db.bank.example", true, 3, 7, 252),
            ("_postgresql._tcp.bank.example", true, 4, 11, 328),
            (".", true, 0, 0, 0),
            ("aaaa", true, 1, 4, 0),
            ("a\\000b.example", false, 2, 7, 252),
            ("abcdefghijklmnopqrstuvwxyz234567.example", true, 2, 32, 500),
        ] {
            let bytes = i64::try_from(name.len()).unwrap();
            let shape = Shape { is_hostname, labels, longest_label, bytes, entropy };
            assert_eq!(Shape::of(name), shape, "{name}");
        }
    }

    #[test]
    fn names_above() {
        let all = |name| above(name).collect::<Vec<_>>();
        assert_eq!(all("db.bank.example"), ["bank.example", "example"]);
        assert_eq!(all("example"), [""; 0]);
        assert_eq!(all("."), [""; 0]);
    }
}
