//! Who stands behind an agent: the person a token names, and those who act for that person.

use std::sync::Arc;

/// Links of a token's `act` claim that are kept; a token with more is refused.
pub const ACTORS_MAX: usize = 8;

/// Groups of a subject that are kept; a token with more is refused.
pub const GROUPS_MAX: usize = 256;

/// Whom an agent acts for, as far as is known now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The person, where a token that holds says so.
    pub subject: Option<Subject>,
    /// Who acts for the person by the token's word (RFC 8693 §4.1): from who acted first, the innermost `act`, to who
    /// acts now; the host's own agents go on from there.
    pub actors: Arc<[Actor]>,
    /// Who answers for the agent by the word of whoever started it; proven by no token.
    pub owner: Option<Arc<str>>,
}

/// The person an agent acts for (RFC 8693 `sub`), from a verified token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// A name to read.
    pub user: Arc<str>,
    /// The issuer.
    pub idp: Arc<str>,
    /// The issuer's stable key for the person.
    pub sub: Arc<str>,
    /// The person's groups by the issuer, sorted, each once.
    pub groups: Arc<[Arc<str>]>,
    /// What the token says of itself.
    pub token: Arc<Token>,
}

/// How a token reached the agent that it counts for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Way {
    /// By a file that is read again when it changes.
    #[default]
    File,
    /// By a person's login on this host (RFC 8628).
    Login,
    /// By credentials of the agent's own, held by the daemon.
    Client,
    /// Inside a request of the agent's.
    Bearer,
    /// In the place of a database password.
    Password,
    /// In exchange for that of the agent around it (RFC 8693).
    Exchange,
}

impl Way {
    /// The word in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "token_file",
            Self::Login => "login",
            Self::Client => "client_credentials",
            Self::Bearer => "bearer",
            Self::Password => "password",
            Self::Exchange => "token_exchange",
        }
    }
}

/// What is kept of a token; never the token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Token {
    /// How it came.
    pub way: Way,
    /// Who had it issued (RFC 9068 `client_id`, `azp` of an ID token).
    pub client: Option<Arc<str>>,
    /// Its own id (`jti`).
    pub id: Option<Arc<str>>,
    /// The person's session at the issuer (`sid`).
    pub session: Option<Arc<str>>,
    /// When it was issued, seconds since 1970 UTC.
    pub issued_s: i64,
    /// Until when it holds, seconds since 1970 UTC.
    pub expires_s: i64,
    /// When the person logged in (`auth_time`), seconds since 1970 UTC.
    pub authenticated_s: Option<i64>,
    /// How (RFC 8176 `amr`).
    pub methods: Arc<[Arc<str>]>,
    /// How well (`acr`).
    pub class: Option<Arc<str>>,
}

/// Someone who acts for a subject: one link of an `act` claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Actor {
    /// The issuer that knows it by `sub`.
    pub idp: Arc<str>,
    /// The issuer's key for it.
    pub sub: Arc<str>,
    /// Its client, where the claim names one.
    pub client: Option<Arc<str>>,
}

impl std::fmt::Display for Actor {
    /// `sub@issuer`; an agent's name holds no `@`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.sub, self.idp)
    }
}
