//! Whom a token speaks of: ID tokens (OpenID Connect Core 1.0 §2, §3.1.3.7) and access tokens (RFC 9068 §4).

use std::sync::Arc;

use types::clock::Timestamp;
use types::identity::{Actor, Identity, Subject, Token, Way};

use super::actor;
use super::claims::Claims;
use super::compact::Compact;
use super::discovery::DiscoveryError;
use super::issuer::Issuer;
use super::json::JsonError;
use super::keys::{Key, KeysError};
use super::typ;

/// What a token is for. None is ever taken for another (RFC 8725 §3.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `typ` is `at+jwt`.
    AccessToken,
    /// `typ` is `JWT` or missing.
    IdToken,
    /// `typ` is `logout+jwt`.
    LogoutToken,
}

impl Kind {
    /// The kind of a header's `typ`, whose case does not count (RFC 7515 §4.1.9).
    pub(super) fn typed(typ: Option<&str>) -> Option<Self> {
        let Some(typ) = typ else { return Some(Self::IdToken) };
        let typ = typ.to_ascii_lowercase();
        match typ.strip_prefix("application/").unwrap_or(&typ) {
            "at+jwt" => Some(Self::AccessToken),
            "jwt" => Some(Self::IdToken),
            "logout+jwt" => Some(Self::LogoutToken),
            _ => None,
        }
    }
}

/// What a verified token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What it is for.
    pub kind: Kind,
    /// `iss`: a configured issuer.
    pub issuer: Arc<str>,
    /// `sub`: the issuer's key for whom it speaks of.
    pub subject: Arc<str>,
    /// The name to read, where the issuer's path leads to one.
    pub name: Option<Arc<str>>,
    /// Groups at the issuer's path.
    pub groups: Vec<Arc<str>>,
    /// `aud`; one of them at least is ours.
    pub audiences: Vec<Arc<str>>,
    /// `azp`: the client that it was issued to.
    pub authorized_party: Option<Arc<str>>,
    /// `client_id`: the client that asked for it; access tokens have it, or `azp` where their header says `JWT`.
    pub client_id: Option<Arc<str>>,
    /// `jti`; access tokens have it.
    pub token_id: Option<Arc<str>>,
    /// `sid`: the session at the issuer.
    pub session_id: Option<Arc<str>>,
    /// `scope`, as it stands.
    pub scope: Option<Arc<str>>,
    /// `iat`, seconds since 1970.
    pub issued_at: i64,
    /// `exp`, seconds since 1970; clocks may differ by the issuer's skew.
    pub expires_at: i64,
    /// `nbf`, seconds since 1970.
    pub not_before: Option<i64>,
    /// `auth_time`: when the person logged in, seconds since 1970.
    pub auth_time: Option<i64>,
    /// `amr`: how the person logged in (RFC 8176).
    pub methods: Vec<Arc<str>>,
    /// `acr`: how well.
    pub context: Option<Arc<str>>,
    /// `act` (RFC 8693 §4.1): who acts for the subject, from who acts now (the outermost `act`) to who acted first.
    pub actors: Vec<Actor>,
}

impl Verified {
    /// Whom an agent acts for that has this token. Its actors begin with who acted first, so that the host's own
    /// agents go on where they end.
    pub fn identity(&self, way: Way) -> Identity {
        let mut groups = self.groups.clone();
        groups.sort_unstable();
        groups.dedup();
        let token = Token {
            way,
            client: self.client_id.clone().or_else(|| self.authorized_party.clone()),
            id: self.token_id.clone(),
            session: self.session_id.clone(),
            issued_s: self.issued_at,
            expires_s: self.expires_at,
            authenticated_s: self.auth_time,
            methods: self.methods.as_slice().into(),
            class: self.context.clone(),
        };
        let subject = Subject {
            user: self.name.clone().unwrap_or_else(|| Arc::clone(&self.subject)),
            idp: Arc::clone(&self.issuer),
            sub: Arc::clone(&self.subject),
            groups: groups.into(),
            token: token.into(),
        };
        let actors = self.actors.iter().rev().cloned().collect();
        Identity { subject: Some(subject), actors, owner: None }
    }
}

/// Why a token is refused. No part of it is in here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenError {
    /// Over [`super::TOKEN_BYTES_MAX`].
    #[error("too_large")]
    TooLarge,
    /// Not three parts of base64url, not JSON, or a claim of the wrong type.
    #[error("malformed")]
    Malformed,
    /// A member stands twice in its header or its claims.
    #[error("duplicate_claim")]
    Duplicate,
    /// Objects within objects without end.
    #[error("too_deep")]
    TooDeep,
    /// More groups or audiences than anybody has.
    #[error("too_many")]
    TooMany,
    /// Its header brings keys or rules of its own.
    #[error("header")]
    Header,
    /// Its algorithm is not allowed, or not the key's.
    #[error("algorithm")]
    Algorithm,
    /// It is for something else.
    #[error("wrong_kind")]
    WrongKind,
    /// The issuer has no such key.
    #[error("unknown_key")]
    UnknownKey,
    /// The signature is not the key's.
    #[error("bad_signature")]
    BadSignature,
    /// Of no configured issuer.
    #[error("wrong_issuer")]
    WrongIssuer,
    /// For somebody else.
    #[error("wrong_audience")]
    WrongAudience,
    /// Issued to a client that is not accepted.
    #[error("wrong_party")]
    WrongParty,
    /// Over.
    #[error("expired")]
    Expired,
    /// Of the future.
    #[error("not_yet_valid")]
    NotYetValid,
    /// Its subject is empty or too long.
    #[error("subject")]
    Subject,
    /// What must be there is not.
    #[error("missing_claim")]
    MissingClaim,
    /// More actors than [`types::identity::ACTORS_MAX`].
    #[error("actor_depth")]
    ActorDepth,
    /// A logout token that says no logout, or has a nonce.
    #[error("event")]
    Event,
    /// A logout token that was here before.
    #[error("replayed")]
    Replayed,
    /// An answer to another question (OpenID Connect Core 1.0 §3.1.3.7).
    #[error("nonce")]
    Nonce,
    /// The issuer's keys can't be had, and there are none that still stand.
    #[error("issuer_unreachable")]
    IssuerUnreachable,
    /// The issuer's metadata or keys are nothing to go by, and there are none that still stand.
    #[error("issuer_unsound")]
    IssuerUnsound,
}

impl TokenError {
    /// The word for the record.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Duplicate => "duplicate_claim",
            Self::TooDeep => "too_deep",
            Self::TooMany => "too_many",
            Self::Header => "header",
            Self::Algorithm => "algorithm",
            Self::WrongKind => "wrong_kind",
            Self::UnknownKey => "unknown_key",
            Self::BadSignature => "bad_signature",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::WrongParty => "wrong_party",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Subject => "subject",
            Self::MissingClaim => "missing_claim",
            Self::ActorDepth => "actor_depth",
            Self::Event => "event",
            Self::Replayed => "replayed",
            Self::Nonce => "nonce",
            Self::IssuerUnreachable => "issuer_unreachable",
            Self::IssuerUnsound => "issuer_unsound",
        }
    }
}

impl From<JsonError> for TokenError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Malformed => Self::Malformed,
            JsonError::Duplicate => Self::Duplicate,
            JsonError::TooDeep => Self::TooDeep,
        }
    }
}

/// Refuses what its header or its issuer rules out, before a key is looked for.
pub(super) fn precheck(
    compact: &Compact<'_>,
    issuer: &Issuer,
    kind: Kind,
) -> Result<(), TokenError> {
    if !issuer.algorithms.contains(&compact.header.algorithm) {
        return Err(TokenError::Algorithm);
    }
    if typ::kind(compact, issuer)? != kind {
        return Err(TokenError::WrongKind);
    }
    if compact.issuer() != Some(issuer.url.as_str()) {
        return Err(TokenError::WrongIssuer);
    }
    Ok(())
}

/// Refuses what the key has not signed.
pub(super) fn check_signature(compact: &Compact<'_>, key: &Key) -> Result<(), TokenError> {
    let algorithm = compact.header.algorithm;
    if !key.fits(algorithm) {
        return Err(TokenError::Algorithm);
    }
    if !key.verifies(algorithm, compact.message.as_bytes(), compact.signature) {
        return Err(TokenError::BadSignature);
    }
    Ok(())
}

/// What every kind of token says of times and audiences.
pub(super) struct Envelope {
    pub(super) audiences: Vec<Arc<str>>,
    pub(super) issued_at: i64,
    pub(super) expires_at: i64,
    pub(super) not_before: Option<i64>,
}

/// Reads and checks that, with a signature that is verified.
pub(super) fn envelope(
    claims: Claims<'_>,
    issuer: &Issuer,
    now: Timestamp,
) -> Result<Envelope, TokenError> {
    let audiences = claims.texts("aud")?;
    if !audiences.iter().any(|theirs| issuer.audiences.iter().any(|ours| **ours == **theirs)) {
        return Err(TokenError::WrongAudience);
    }
    let now_s = now.unix_us.div_euclid(1_000_000);
    let skew_s = i64::try_from(issuer.clock_skew_s).unwrap_or(0);
    let expires_at = claims.time("exp")?.ok_or(TokenError::MissingClaim)?;
    let issued_at = claims.time("iat")?.ok_or(TokenError::MissingClaim)?;
    let not_before = claims.time("nbf")?;
    // RFC 7519 §4.1.4: on or after it, it is over.
    if now_s.saturating_sub(skew_s) >= expires_at {
        return Err(TokenError::Expired);
    }
    let earliest = not_before.unwrap_or(issued_at).max(issued_at);
    if now_s.saturating_add(skew_s) < earliest {
        return Err(TokenError::NotYetValid);
    }
    Ok(Envelope { audiences, issued_at, expires_at, not_before })
}

/// Reads and checks the claims of an ID token or an access token, with a signature that is verified.
pub(super) fn judge(
    compact: &Compact<'_>,
    issuer: &Issuer,
    now: Timestamp,
) -> Result<Verified, TokenError> {
    let claims = Claims(&compact.claims);
    let kind = typ::kind(compact, issuer)?;
    let Envelope { audiences, issued_at, expires_at, not_before } = envelope(claims, issuer, now)?;
    let authorized_party = claims.text("azp")?.map(Arc::from);
    let mut client_id = claims.text("client_id")?.map(Arc::from);
    if kind == Kind::AccessToken && compact.header.kind != kind {
        // Where its header does not say what it is, RFC 9068 does not say where its client is.
        client_id = client_id.or_else(|| authorized_party.clone());
    }
    let token_id = claims.text("jti")?.map(Arc::from);
    match kind {
        // RFC 9068 §2.2: both must be there.
        Kind::AccessToken if client_id.is_none() || token_id.is_none() => {
            return Err(TokenError::MissingClaim);
        }
        // Core §3.1.3.7: what is for several says to whom it was issued.
        Kind::IdToken if audiences.len() > 1 && authorized_party.is_none() => {
            return Err(TokenError::WrongParty);
        }
        _ => {}
    }
    check_parties(kind, issuer, authorized_party.as_deref(), client_id.as_deref())?;
    let url: Arc<str> = issuer.url.as_str().into();
    let actors = actor::chain(claims, &url)?;
    let subject = claims.text("sub").map_err(|_| TokenError::Subject)?;
    Ok(Verified {
        kind,
        subject: subject.ok_or(TokenError::Subject)?.into(),
        name: claims.name(&issuer.name)?,
        groups: claims.groups(&issuer.groups)?,
        audiences,
        authorized_party,
        client_id,
        token_id,
        session_id: claims.text("sid")?.map(Arc::from),
        scope: scope(claims)?,
        issued_at,
        expires_at,
        not_before,
        auth_time: claims.time("auth_time")?,
        methods: claims.texts("amr")?,
        context: claims.text("acr")?.map(Arc::from),
        actors,
        issuer: url,
    })
}

/// The scope's one text: scopes separated by blanks (RFC 6749 §3.3).
fn scope(claims: Claims<'_>) -> Result<Option<Arc<str>>, TokenError> {
    claims.get("scope").map(|_| claims.url("scope").map(Arc::from)).transpose()
}

/// Refuses what was issued to a client that is not accepted.
fn check_parties(
    kind: Kind,
    issuer: &Issuer,
    authorized_party: Option<&str>,
    client_id: Option<&str>,
) -> Result<(), TokenError> {
    let accepted = &issuer.authorized_parties;
    let is_in = |names: &[String], client: &str| names.iter().any(|name| name == client);
    let is_accepted = if accepted.is_empty() {
        let is_ours = authorized_party.is_none_or(|client| is_in(&issuer.audiences, client));
        kind != Kind::IdToken || is_ours
    } else {
        authorized_party.into_iter().chain(client_id).all(|client| is_in(accepted, client))
    };
    is_accepted.then_some(()).ok_or(TokenError::WrongParty)
}

impl From<&DiscoveryError> for TokenError {
    fn from(error: &DiscoveryError) -> Self {
        match error.reason() {
            "issuer_unreachable" | "status" => Self::IssuerUnreachable,
            _ => Self::IssuerUnsound,
        }
    }
}

impl From<&KeysError> for TokenError {
    fn from(error: &KeysError) -> Self {
        match error.reason() {
            "issuer_unreachable" | "status" => Self::IssuerUnreachable,
            _ => Self::IssuerUnsound,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::super::compact::Header;
    use super::super::issuer::Algorithm;
    use super::*;

    const NOW: Timestamp = Timestamp { unix_us: 1_000_000_000_000, mono_ns: 0 };

    fn issuer() -> Issuer {
        Issuer::new("https://id.bank.example", vec!["us".to_owned()])
    }

    fn compact(kind: Kind, claims: Value) -> Compact<'static> {
        let Value::Object(claims) = claims else { panic!("claims are an object") };
        let header = Header { algorithm: Algorithm::Es256, key: "a".into(), kind };
        Compact { header, claims, message: "", signature: "" }
    }

    fn sound() -> Map<String, Value> {
        let claims = json!({
            "iss": "https://id.bank.example", "sub": "carl", "aud": "us", "exp": 1_000_100,
            "iat": 1_000_000, "client_id": "c", "jti": "1", "azp": "us",
        });
        claims.as_object().unwrap().clone()
    }

    /// A sound access token's claims with one of them as given; `null` is none.
    #[track_caller]
    fn with(name: &str, value: Value) -> Result<Verified, TokenError> {
        let mut claims = sound();
        claims.insert(name.to_owned(), value);
        judge(&compact(Kind::AccessToken, Value::Object(claims)), &issuer(), NOW)
    }

    #[test]
    fn clocks_may_differ_by_the_skew_and_no_more() {
        assert!(with("exp", json!(1_000_000 - 59)).is_ok());
        assert_eq!(with("exp", json!(1_000_000 - 60)), Err(TokenError::Expired));
        for name in ["iat", "nbf"] {
            assert!(with(name, json!(1_000_060)).is_ok(), "{name}");
            assert_eq!(with(name, json!(1_000_061)), Err(TokenError::NotYetValid), "{name}");
        }
    }

    #[test]
    fn what_must_be_there_must_be_there() {
        for (name, expected) in [
            ("exp", TokenError::MissingClaim),
            ("iat", TokenError::MissingClaim),
            ("jti", TokenError::MissingClaim),
            ("client_id", TokenError::MissingClaim),
            ("sub", TokenError::Subject),
            ("aud", TokenError::WrongAudience),
        ] {
            assert_eq!(with(name, Value::Null), Err(expected), "{name}");
        }
        for wrong in [json!(""), json!(1), json!("a".repeat(256)), json!("a\n")] {
            assert_eq!(with("sub", wrong), Err(TokenError::Subject));
        }
        assert!(with("sub", json!("a".repeat(255))).is_ok());
        assert_eq!(with("aud", json!(["them"])), Err(TokenError::WrongAudience));
        assert_eq!(with("aud", json!({"us": 1})), Err(TokenError::Malformed));
        assert!(with("aud", json!(["them", "us"])).is_ok());
    }

    #[test]
    fn clients_that_are_not_named_are_refused() {
        let check = |kind, parties: &[&str], name: &str, client: &str| {
            let mut claims = sound();
            claims.insert(name.to_owned(), json!(client));
            let mut issuer = issuer();
            issuer.authorized_parties = parties.iter().map(ToString::to_string).collect();
            judge(&compact(kind, Value::Object(claims)), &issuer, NOW).map(drop)
        };
        let refused = Err(TokenError::WrongParty);
        assert_eq!(check(Kind::IdToken, &[], "azp", "other"), refused);
        assert_eq!(check(Kind::IdToken, &["us", "c"], "azp", "other"), refused);
        assert_eq!(check(Kind::AccessToken, &["us", "c"], "azp", "other"), refused);
        assert_eq!(check(Kind::AccessToken, &["us", "c"], "client_id", "other"), refused);
        assert_eq!(check(Kind::AccessToken, &["us", "c"], "client_id", "us"), Ok(()));
        assert_eq!(check(Kind::AccessToken, &[], "client_id", "other"), Ok(()));
    }

    #[test]
    fn an_identity_begins_with_who_acted_first() {
        let mut claims = sound();
        claims.insert("groups".to_owned(), json!(["b", "a", "b"]));
        claims.insert("act".to_owned(), json!({"sub": "now", "act": {"sub": "first"}}));
        let verified = judge(&compact(Kind::AccessToken, Value::Object(claims)), &issuer(), NOW);
        let identity = verified.unwrap().identity(Way::Login);
        let actors: Vec<&str> = identity.actors.iter().map(|actor| &*actor.sub).collect();
        assert_eq!(actors, ["first", "now"]);
        let subject = identity.subject.unwrap();
        assert_eq!((&*subject.user, &*subject.sub), ("carl", "carl"));
        assert_eq!(&*subject.groups, ["a".into(), "b".into()]);
        assert_eq!(
            (subject.token.client.as_deref(), subject.token.expires_s),
            (Some("c"), 1_000_100)
        );
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                proptest::collection::btree_map("sub|act|iss|[a-z]", inner, 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn arbitrary_claims_do_not_panic(
            name in "sub|aud|azp|exp|nbf|iat|jti|sid|client_id|auth_time|amr|acr|groups|name|act|scope",
            value in any_value(),
        ) {
            let read = with(&name, value.clone());
            // Times, texts and lists of them are all that is believed.
            prop_assert!(read.is_err() || value.is_object() <= matches!(name.as_str(), "act" | "name" | "groups"));
        }
    }
}
