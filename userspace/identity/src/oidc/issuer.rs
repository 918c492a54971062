//! A configured issuer: whom to believe, and about what.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;

use super::typ::AccessTokenTyp;

/// Seconds that clocks may differ by, unless configured.
pub const CLOCK_SKEW_S: u64 = 60;

/// Seconds that clocks may be configured to differ by.
pub const CLOCK_SKEW_S_MAX: u64 = 300;

/// Names in one list of the configuration: audiences, client ids.
const NAMES_MAX: usize = 64;

/// An issuer, and what its tokens must be like.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// Its identifier, to the byte what `iss` and its own metadata say (OpenID Connect Discovery 1.0 §4.3).
    pub url: String,
    /// Audiences of which a token must name one.
    pub audiences: Vec<String>,
    /// Client ids that tokens may have been issued to, by `azp` or `client_id`. With none, an ID token's `azp` is
    /// to be one of the audiences, and any client may have had an access token for them.
    pub authorized_parties: Vec<String>,
    /// Signature algorithms that are taken.
    pub algorithms: Vec<Algorithm>,
    /// What the header of its access tokens says.
    pub access_token_typ: AccessTokenTyp,
    /// Where the groups are.
    pub groups: ClaimPath,
    /// Where the name to read is.
    pub name: ClaimPath,
    /// Seconds that its clock and ours may differ by; [`CLOCK_SKEW_S_MAX`] at most.
    pub clock_skew_s: u64,
    /// How long its keys stand.
    pub keys: KeyLimits,
    /// Certificates (PEM) of authorities to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// How long to wait for it.
    pub timeouts: Timeouts,
}

impl Issuer {
    /// An issuer with the defaults: RS256, ES256 and EdDSA, groups in `groups`, the name in `name`.
    pub fn new(url: &str, audiences: Vec<String>) -> Self {
        Self {
            url: url.to_owned(),
            audiences,
            authorized_parties: Vec::new(),
            algorithms: vec![Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa],
            access_token_typ: AccessTokenTyp::AtJwt,
            groups: ClaimPath(vec!["groups".to_owned()]),
            name: ClaimPath(vec!["name".to_owned()]),
            clock_skew_s: CLOCK_SKEW_S,
            keys: KeyLimits::default(),
            ca_file: None,
            timeouts: Timeouts::default(),
        }
    }

    /// Says what can't be meant.
    ///
    /// # Errors
    /// The first thing found.
    pub fn check(&self) -> Result<(), IssuerError> {
        if !is_issuer(&self.url) {
            return Err(IssuerError::Url);
        }
        if self.audiences.is_empty() || self.audiences.len() > NAMES_MAX {
            return Err(IssuerError::Audiences);
        }
        if self.authorized_parties.len() > NAMES_MAX {
            return Err(IssuerError::Parties);
        }
        if self.audiences.iter().chain(&self.authorized_parties).any(String::is_empty) {
            return Err(IssuerError::Audiences);
        }
        if self.algorithms.is_empty() {
            return Err(IssuerError::Algorithms);
        }
        if self.clock_skew_s > CLOCK_SKEW_S_MAX {
            return Err(IssuerError::Skew);
        }
        if self.keys.fresh > self.keys.stale_max || self.keys.refetch_gap.is_zero() {
            return Err(IssuerError::Keys);
        }
        Ok(())
    }
}

/// Whether a text can be an issuer's identifier: a URL to fetch from, with neither query nor fragment (OpenID
/// Connect Discovery 1.0 §2).
fn is_issuer(url: &str) -> bool {
    endpoint(url).is_some_and(|url| url.query().is_none() && url.fragment().is_none())
}

/// A URL that may be fetched from: https, or http on a loopback address.
pub(super) fn endpoint(url: &str) -> Option<Url> {
    const BYTES_MAX: usize = 2048;
    if url.len() > BYTES_MAX {
        return None;
    }
    let url = Url::parse(url).ok()?;
    let has_user = !url.username().is_empty() || url.password().is_some();
    let is_loopback = || matches!(url.host_str(), Some("127.0.0.1" | "[::1]"));
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback());
    (is_safe && url.has_host() && !has_user).then_some(url)
}

/// What an issuer's configuration has wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// No https URL (http on 127.0.0.1 or ::1), or one with a query, a fragment or a user.
    #[error("an issuer is an https URL without query and fragment")]
    Url,
    /// None, too many, or an empty one.
    #[error("an issuer needs 1 to 64 audiences, none of them empty")]
    Audiences,
    /// Too many.
    #[error("an issuer has at most 64 authorized parties")]
    Parties,
    /// None.
    #[error("an issuer needs an algorithm")]
    Algorithms,
    /// Over [`CLOCK_SKEW_S_MAX`].
    #[error("clocks may differ by 300 s at most")]
    Skew,
    /// They would be stale before they are old, or fetched without a pause.
    #[error("keys are fresh no longer than they stand, and there is a pause between fetches")]
    Keys,
}

/// A signature algorithm (RFC 7518 §3.1, RFC 8037 §3.1); a shared key is none of them, nor is `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// The algorithm of a name in a header or a configuration; `Ed25519` is what RFC 9864 calls EdDSA.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "PS256" => Self::Ps256,
            "ES256" => Self::Es256,
            "EdDSA" | "Ed25519" => Self::EdDsa,
            _ => return None,
        })
    }
}

/// Where a claim is: names from the outermost member to the innermost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(pub Vec<String>);

impl ClaimPath {
    /// A path as it is written: members separated by dots (`realm_access.roles`). What has `://` in it is one name,
    /// as namespaced claims are URLs; any other name with a dot has to be given as a list of one.
    pub fn parse(text: &str) -> Self {
        if text.contains("://") {
            return Self(vec![text.to_owned()]);
        }
        Self(text.split('.').map(str::to_owned).collect())
    }
}

/// How long the keys of an issuer stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLimits {
    /// After that they are fetched again.
    pub fresh: Duration,
    /// If they can't be fetched, what is there stands until they are that old; then nothing is accepted.
    pub stale_max: Duration,
    /// Between two fetches, whatever asks for them: unknown keys too.
    pub refetch_gap: Duration,
}

impl Default for KeyLimits {
    fn default() -> Self {
        Self {
            fresh: Duration::from_mins(10),
            stale_max: Duration::from_hours(24),
            refetch_gap: Duration::from_secs(10),
        }
    }
}

/// How long to wait for an issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For an answer, its body included.
    pub request: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(3), request: Duration::from_secs(5) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(url: &str) -> Issuer {
        Issuer::new(url, vec!["us".to_owned()])
    }

    #[test]
    fn issuers_are_https_or_loopback() {
        for url in [
            "https://id.bank.example",
            "https://id.bank.example/realms/a",
            "http://127.0.0.1:8/",
            "http://[::1]",
        ] {
            assert_eq!(issuer(url).check(), Ok(()), "{url}");
        }
        let long = format!("https://id.bank.example/{}", "a".repeat(3000));
        for url in [
            "http://id.bank.example",
            "http://localhost",
            "http://127.0.0.1.bank.example",
            "https://a:b@id.bank.example",
            "https://id.bank.example/?a",
            "https://id.bank.example/#a",
            "ftp://127.0.0.1",
            "file:///etc/passwd",
            "",
            &long,
        ] {
            assert_eq!(issuer(url).check(), Err(IssuerError::Url), "{url}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let mut wrong = issuer("https://a.example");
        wrong.clock_skew_s = 301;
        assert_eq!(wrong.check(), Err(IssuerError::Skew));
        wrong = issuer("https://a.example");
        wrong.keys.stale_max = Duration::from_secs(1);
        assert_eq!(wrong.check(), Err(IssuerError::Keys));
        wrong = issuer("https://a.example");
        wrong.audiences.push(String::new());
        assert_eq!(wrong.check(), Err(IssuerError::Audiences));
    }

    #[test]
    fn shared_keys_and_none_are_no_algorithms() {
        for name in ["none", "None", "HS256", "HS384", "HS512", "rs256", "RS1", "ES256K", ""] {
            assert_eq!(Algorithm::named(name), None, "{name}");
        }
    }

    #[test]
    fn paths_are_read() {
        assert_eq!(ClaimPath::parse("realm_access.roles").0, ["realm_access", "roles"]);
        assert_eq!(
            ClaimPath::parse("https://bank.example/groups").0,
            ["https://bank.example/groups"]
        );
    }
}
