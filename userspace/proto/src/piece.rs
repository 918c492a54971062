//! Pieces of the wire for the record, where policy has all of a session kept.

/// A piece of what came from the agent, or of what it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// The bytes.
    Bytes(&'a [u8]),
    /// So many that are not kept, and why.
    Gap(u64, Gap),
}

/// Why bytes of the wire are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gap {
    /// They belong to the login.
    Login,
    /// They are a secret, or there is one in the message.
    Secret,
    /// They can't be taken apart, so there may be a secret in them.
    Unreadable,
    /// Policy does not ask for them.
    Policy,
}

impl Gap {
    /// Its word in recordings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Secret => "secret",
            Self::Unreadable => "unreadable",
            Self::Policy => "policy",
        }
    }
}
