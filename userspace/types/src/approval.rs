//! On what terms a person's approval is asked for.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::PolicyId;

/// What one policy asks for before a command goes on (`@approve`). Of several policies, all of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    /// The policy.
    pub policy: PolicyId,
    /// Who may approve: members of any of these groups, by their issuer's word. Never empty.
    pub groups: Arc<[Arc<str>]>,
    /// How many people must, each counted once; at least 1.
    pub people: u8,
    /// How long it may take, in seconds.
    pub request_s: u32,
    /// How long what was approved may be used, in seconds from the approval.
    pub grant_s: u32,
    /// What an approval covers.
    pub covers: Coverage,
    /// How long a command may wait inside an open transaction, in seconds: it holds locks there.
    pub transaction_s: u32,
    /// Within a transaction, approval is asked for before its first write or not at all.
    pub before_write: bool,
    /// The server may be asked how many rows it expects the command to touch.
    pub estimates: bool,
    /// Members of these groups may let it through alone, in an emergency; nobody where empty.
    pub break_glass: Arc<[Arc<str>]>,
}

/// What an approval covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// The very command that waits, once.
    Command,
    /// So many commands that differ from it in their literals and parameters alone, by the same principal at
    /// the same target; the one that waits is the first.
    Alike(u32),
    /// Whatever the session does, until the grant ends, to the same objects by the same actions.
    Session,
}

impl fmt::Display for Coverage {
    /// As policies write it: `command`, `alike*20`, `session`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command => f.write_str("command"),
            Self::Alike(times) => write!(f, "alike*{times}"),
            Self::Session => f.write_str("session"),
        }
    }
}
