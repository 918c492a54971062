//! People who are logged in on this host.

use serde::{Deserialize, Serialize};

/// A person who is logged in on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingLogin {
    /// Who that is to this host: `login uid N`, `sudo uid N` or `uid N`.
    pub person: String,
    /// The name to read.
    pub user: String,
    /// The issuer.
    pub idp: String,
    /// The issuer's key for the person.
    pub sub: String,
    /// The person's groups.
    pub groups: Vec<String>,
    /// Until when the token at hand holds, seconds since 1970 UTC.
    pub expires_s: i64,
    /// Whether another can be had before that.
    pub renewed: bool,
    /// Name and instance of each agent that ends with it.
    pub agents: Vec<String>,
}
