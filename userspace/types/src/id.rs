//! Identifiers. Each is a type of its own, so that none is passed for another.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Declares an id that is a UUIDv7 (RFC 9562 §5.7), so that ids sort by time. In JSON it is its usual text.
macro_rules! id_by_time {
    ($(#[$documentation:meta])* $name:ident) => {
        $(#[$documentation])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(uuid::Uuid);

        impl $name {
            /// Makes the id of what begins at `now`; `random` must come from the system's random source.
            pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
                let millis = u64::try_from(now.unix_us / 1000).unwrap_or(0);
                Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
            }

            /// When it was made, as it says: microseconds since 1970 UTC, in whole milliseconds.
            pub fn made_us(&self) -> i64 {
                let millis = self.0.as_bytes().iter().take(6);
                millis.fold(0_i64, |ms, byte| ms << 8 | i64::from(*byte)).saturating_mul(1_000)
            }

            /// The id's 16 bytes, in network order.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The id with these 16 bytes, whatever they say.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(uuid::Uuid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(s: &str) -> Result<Self, Self::Err> {
                Ok(Self(s.parse()?))
            }
        }

        impl TryFrom<String> for $name {
            type Error = uuid::Error;

            fn try_from(s: String) -> Result<Self, Self::Error> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

id_by_time! {
    /// One intercepted connection's session.
    SessionId
}

id_by_time! {
    /// A request for approval, and the grant that comes of it.
    RequestId
}

/// A command's place in its session, from 1 (`session_seq` in the archive).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub u32);

/// A row's place in its node's log, from 0: the leaf index of the Merkle tree (RFC 6962 §2.1).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct SequenceNumber(pub u64);

/// A cgroup v2 directory's id: its inode number, as `bpf_get_current_cgroup_id` answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CgroupId(pub u64);

/// A policy's id, as its author wrote it in `@id("…")`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyId(pub Arc<str>);

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name under which an agent is enrolled: `[a-z0-9][a-z0-9._-]{0,62}`, so that it can stand
/// in a path, a policy and a SQL string unquoted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgentName(Arc<str>);

impl AgentName {
    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AgentName {
    type Err = InvalidAgentName;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let rest_ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        let first_ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        match s.as_bytes() {
            [first, rest @ ..]
                if first_ok(*first) && rest.len() < 63 && rest.iter().all(|b| rest_ok(*b)) =>
            {
                Ok(Self(s.into()))
            }
            _ => Err(InvalidAgentName),
        }
    }
}

impl TryFrom<String> for AgentName {
    type Error = InvalidAgentName;

    fn try_from(s: String) -> Result<Self, Self::Error> {
        s.parse()
    }
}

impl From<AgentName> for String {
    fn from(name: AgentName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a string is not an [`AgentName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an agent's name is 1 to 63 of a-z 0-9 . _ - and starts with a letter or digit")]
pub struct InvalidAgentName;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agent_names() {
        for (name, good) in [
            ("psql", true),
            ("a.b-c_9", true),
            ("", false),
            ("-a", false),
            ("A", false),
            ("a/b", false),
            (&"a".repeat(63), true),
            (&"a".repeat(64), false),
        ] {
            assert_eq!(name.parse::<AgentName>().is_ok(), good, "{name}");
        }
    }

    #[test]
    fn session_ids_sort_by_time() {
        let at = |unix_us| SessionId::new(Timestamp { unix_us, mono_ns: 0 }, [7; 10]);
        assert!(at(1_000_000) < at(2_000_000));
        assert_eq!(at(5_000).to_string().parse::<SessionId>().unwrap(), at(5_000));
        assert_eq!(at(1_796_112_930_123_456).made_us(), 1_796_112_930_123_000);
    }
}
