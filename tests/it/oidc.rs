//! Tokens of a real provider, verified; and forged ones, refused for the right reason.

use std::time::Duration;

use identity::oidc::{
    Algorithm, ClaimPath, Client, Issuer, Kind, Provider, Providers, TokenError, Verified,
};
use integration::Idp;
use integration::idp::{CARL, CLIENT, RESOURCES, SECRET, SignedBy};
use serde_json::{Value, json};
use types::clock::Timestamp;
use types::secret::Secret;

/// A provider with what verifies its tokens; time is what the test says.
pub(crate) struct Place {
    pub(crate) idp: Idp,
    pub(crate) provider: Provider,
    runtime: tokio::runtime::Runtime,
}

impl Place {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| ())
    }

    pub(crate) fn start_with(adjust: impl FnOnce(&mut Issuer)) -> Self {
        let idp = Idp::start().unwrap();
        let mut audiences: Vec<String> = RESOURCES.iter().map(ToString::to_string).collect();
        audiences.push(CLIENT.to_owned());
        let mut issuer = Issuer::new(&idp.issuer(), audiences);
        issuer.timeouts.request = Duration::from_secs(2);
        adjust(&mut issuer);
        let provider = Provider::new(issuer).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { idp, provider, runtime }
    }

    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(crate) fn verify(&self, token: &str, kind: Kind) -> Result<Verified, TokenError> {
        self.verify_at(token, kind, now(0))
    }

    pub(crate) fn verify_at(
        &self,
        token: &str,
        kind: Kind,
        now: Timestamp,
    ) -> Result<Verified, TokenError> {
        self.wait(self.provider.verify(&Secret::new(token.to_owned()), kind, now))
    }

    /// The claims of a sound access token, with some of them as given.
    pub(crate) fn claims(&self, more: &Value) -> Value {
        let now = now(0).unix_us / 1_000_000;
        let mut claims = json!({
            "iss": self.idp.issuer(), "sub": CARL, "aud": RESOURCES[0], "exp": now + 600, "iat": now,
            "client_id": CLIENT, "jti": "one", "groups": ["contractors"],
        });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    }

    /// A token of these claims that the provider has signed.
    pub(crate) fn signed(&self, more: &Value) -> String {
        self.idp.sign(HEADER, &self.claims(more).to_string(), SignedBy::Rs256).unwrap()
    }

    /// Why the provider's own signature does not help.
    #[track_caller]
    fn refused(&self, header: &str, more: &Value, by: SignedBy, expected: &str) {
        let token = self.idp.sign(header, &self.claims(more).to_string(), by).unwrap();
        self.refused_token(&token, expected);
    }

    #[track_caller]
    fn refused_token(&self, token: &str, expected: &str) {
        let refused = self.verify(token, Kind::AccessToken).unwrap_err();
        assert_eq!(refused.reason(), expected);
        assert_eq!(refused.to_string(), expected);
    }
}

/// The daemon's client.
pub(crate) fn client() -> Client {
    Client { id: CLIENT.to_owned(), secret: Some(Secret::new(SECRET.to_owned())) }
}

/// The present, and seconds from it, on both clocks.
#[expect(clippy::disallowed_methods, reason = "the provider's clock is the real one")]
pub(crate) fn now(more_s: i64) -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let unix_us = i64::try_from(since.as_micros()).unwrap() + more_s * 1_000_000;
    Timestamp { unix_us, mono_ns: u64::try_from(unix_us).unwrap() * 1000 }
}

/// The header of an access token by the provider's RSA key.
pub(crate) const HEADER: &str = r#"{"alg":"RS256","kid":"RS256-1","typ":"at+jwt"}"#;

#[test]
fn access_tokens_are_verified_by_every_algorithm() {
    let place = Place::start();
    for (header, by) in [
        (HEADER, SignedBy::Rs256),
        (r#"{"alg":"ES256","kid":"ES256-1","typ":"application/at+jwt"}"#, SignedBy::Es256),
        (r#"{"alg":"EdDSA","kid":"EdDSA-1","typ":"AT+JWT"}"#, SignedBy::EdDsa),
    ] {
        let more = json!({
            "scope": "bank", "sid": "s", "auth_time": 1, "acr": "high", "amr": ["pwd", "otp"], "azp": CLIENT,
            "act": {"sub": "inner", "act": {"sub": "outer"}},
        });
        let token = place.idp.sign(header, &place.claims(&more).to_string(), by).unwrap();
        let verified = place.verify(&token, Kind::AccessToken).unwrap();
        assert_eq!((&*verified.subject, &*verified.issuer), (CARL, place.idp.issuer().as_str()));
        assert_eq!((verified.groups, verified.methods.len()), (vec!["contractors".into()], 2));
        let actors: Vec<&str> = verified.actors.iter().map(|actor| &*actor.sub).collect();
        assert_eq!(actors, ["inner", "outer"]);
        assert_eq!((verified.session_id.as_deref(), verified.auth_time), (Some("s"), Some(1)));
    }
    // One fetch for all of them.
    assert_eq!(place.idp.asked().unwrap().keys, 1);
}

#[test]
fn forged_headers_are_refused() {
    let place = Place::start();
    assert!(place.verify(&place.signed(&json!({})), Kind::AccessToken).is_ok());
    let none = json!({});
    let check = |header: &str, by, expected| place.refused(header, &none, by, expected);
    check(r#"{"alg":"none","kid":"RS256-1","typ":"at+jwt"}"#, SignedBy::Nobody, "algorithm");
    check(r#"{"alg":"nOnE","typ":"at+jwt"}"#, SignedBy::Nobody, "algorithm");
    check(r#"{"alg":"RS256","kid":"RS256-1","typ":"at+jwt"}"#, SignedBy::Nobody, "bad_signature");
    // RFC 8725 §2.1: the public key for a shared secret, said and not said.
    let secret = SignedBy::PublicKeyAsSecret;
    check(r#"{"alg":"HS256","kid":"RS256-1","typ":"at+jwt"}"#, secret, "algorithm");
    check(HEADER, secret, "bad_signature");
    check(r#"{"alg":"RS256","kid":"RS256-9","typ":"at+jwt"}"#, SignedBy::Rs256, "unknown_key");
    check(r#"{"alg":"RS256","kid":"ES256-1","typ":"at+jwt"}"#, SignedBy::Rs256, "algorithm");
    check(r#"{"alg":"ES256","kid":"RS256-1","typ":"at+jwt"}"#, SignedBy::Es256, "algorithm");
    check(r#"{"alg":"PS256","kid":"RS256-1","typ":"at+jwt"}"#, SignedBy::Rs256, "algorithm");
    check(r#"{"alg":"RS256","typ":"at+jwt"}"#, SignedBy::Rs256, "unknown_key");
    for more in [
        r#""jku":"https://evil.example/keys""#,
        r#""x5u":"https://evil.example/cert""#,
        r#""jwk":{"kty":"oct","k":"AA"}"#,
        r#""x5c":["AA"]"#,
        r#""crit":["exp"]"#,
        r#""crit":["unknown"],"unknown":1"#,
        r#""b64":false"#,
    ] {
        let header = format!(r#"{{"alg":"RS256","kid":"RS256-1","typ":"at+jwt",{more}}}"#);
        check(&header, SignedBy::Rs256, "header");
    }
    let twice = r#"{"alg":"RS256","alg":"none","kid":"RS256-1","typ":"at+jwt"}"#;
    check(twice, SignedBy::Rs256, "duplicate_claim");
    for typ in ["JWT", "logout+jwt"] {
        let header = format!(r#"{{"alg":"RS256","kid":"RS256-1","typ":"{typ}"}}"#);
        check(&header, SignedBy::Rs256, "wrong_kind");
    }
    check(r#"{"alg":"RS256","kid":"RS256-1"}"#, SignedBy::Rs256, "wrong_kind");
    check(r#"{"alg":"RS256","kid":"RS256-1","typ":"secevent+jwt"}"#, SignedBy::Rs256, "wrong_kind");
}

#[test]
fn claims_that_do_not_fit_are_refused() {
    let place = Place::start_with(|issuer| {
        issuer.authorized_parties = vec![CLIENT.to_owned()];
    });
    let now = now(0).unix_us / 1_000_000;
    let check = |more: Value, expected| place.refused(HEADER, &more, SignedBy::Rs256, expected);
    check(json!({"iss": "https://evil.example"}), "wrong_issuer");
    check(json!({"iss": format!("{}/", place.idp.issuer())}), "wrong_issuer");
    check(json!({"iss": null}), "wrong_issuer");
    check(json!({"aud": "https://other.example"}), "wrong_audience");
    check(json!({"aud": ["https://other.example", "https://bank.example"]}), "wrong_audience");
    check(json!({"aud": []}), "wrong_audience");
    check(json!({"aud": null}), "wrong_audience");
    check(json!({"exp": now - 61}), "expired");
    check(json!({"exp": null}), "missing_claim");
    check(json!({"exp": "9999999999"}), "malformed");
    check(json!({"nbf": now + 90}), "not_yet_valid");
    check(json!({"iat": now + 90}), "not_yet_valid");
    check(json!({"sub": ""}), "subject");
    check(json!({"sub": "a".repeat(256)}), "subject");
    check(json!({"sub": 7}), "subject");
    check(json!({"azp": "somebody-else"}), "wrong_party");
    check(json!({"client_id": "somebody-else"}), "wrong_party");
    check(json!({"groups": {"staff": true}}), "malformed");
    let mut chain = json!({"sub": "a0"});
    for n in 1..8 {
        chain = json!({"sub": format!("a{n}"), "act": chain});
    }
    let eight = place.signed(&json!({"act": chain}));
    assert_eq!(place.verify(&eight, Kind::AccessToken).unwrap().actors.len(), 8);
    check(json!({"act": {"sub": "a8", "act": chain}}), "actor_depth");
}

#[test]
fn texts_that_mean_two_things_are_refused() {
    let place = Place::start();
    let sound = place.claims(&json!({})).to_string();
    let with = |more: &str| format!("{{{more},{}", sound.strip_prefix('{').unwrap());
    let check = |payload: &str, expected| {
        let token = place.idp.sign(HEADER, payload, SignedBy::Rs256).unwrap();
        place.refused_token(&token, expected);
    };
    check(&with(r#""sub":"alice""#), "duplicate_claim");
    check(&with(r#""s\u0075b":"alice""#), "duplicate_claim");
    check(&with(r#""act":{"sub":"a","sub":"b"}"#), "duplicate_claim");
    check(&with(r#""x":[{"a":1,"a":2}]"#), "duplicate_claim");
    // Deeper than any chain that is read: 500 actors are 9 KiB.
    let deep = r#""act":{"sub":"a","#.repeat(500) + r#""x":1"# + &"}".repeat(500);
    check(&with(&deep), "too_deep");
    check(&with(&format!(r#""x":{}{}"#, "[".repeat(4000), "]".repeat(4000))), "too_deep");
    check(&with(&format!(r#""x":"{}""#, "a".repeat(1 << 20))), "too_large");
    check(&format!("{sound}{sound}"), "malformed");
    check("[]", "malformed");
    check("", "malformed");
}

#[test]
fn signatures_that_are_none_are_refused() {
    let place = Place::start();
    let sound = place.signed(&json!({}));
    let (message, signature) = sound.rsplit_once('.').unwrap();
    let check = |token: &str, expected| place.refused_token(token, expected);
    // 342 characters stand for 256 bytes, 340 for 255.
    check(&format!("{message}.{}", &signature[..340]), "bad_signature");
    check(&format!("{message}.{}", &signature[..4]), "bad_signature");
    check(&format!("{message}."), "bad_signature");
    check(message, "malformed");
    check(&format!("{sound}=="), "malformed");
    check(&format!("{sound}\n"), "malformed");
    check(&format!("{message}.+{}", &signature[1..]), "malformed");
    check(&format!("{sound}.{signature}"), "malformed");
    // Another's claims under this signature.
    let other = place.signed(&json!({"sub": "alice"}));
    let other = other.rsplit_once('.').unwrap().0;
    check(&format!("{other}.{signature}"), "bad_signature");
    // ECDSA with r and s of zero (CVE-2022-21449), and in DER.
    let header = r#"{"alg":"ES256","kid":"ES256-1","typ":"at+jwt"}"#;
    let es256 = place.idp.sign(header, &place.claims(&json!({})).to_string(), SignedBy::Es256);
    let es256 = es256.unwrap();
    assert!(place.verify(&es256, Kind::AccessToken).is_ok());
    let message = es256.rsplit_once('.').unwrap().0;
    check(&format!("{message}.{}", "A".repeat(86)), "bad_signature");
    check(&format!("{message}.MAYCAQACAQA"), "bad_signature");
}

#[test]
fn an_issuer_that_rotates_its_keys_is_followed() {
    let place = Place::start();
    let old = place.signed(&json!({}));
    assert!(place.verify(&old, Kind::AccessToken).is_ok());
    place.idp.rotate(true).unwrap();
    let header = HEADER.replace("-1", "-2");
    let new = place.idp.sign(&header, &place.claims(&json!({})).to_string(), SignedBy::Rs256);
    let new = new.unwrap();
    // The last fetch was just now: the next unknown key waits, and many of them cost no more than one.
    assert_eq!(place.verify(&new, Kind::AccessToken), Err(TokenError::UnknownKey));
    assert_eq!(place.idp.asked().unwrap().keys, 1);
    assert!(place.verify_at(&new, Kind::AccessToken, now(11)).is_ok());
    assert!(place.verify_at(&old, Kind::AccessToken, now(11)).is_ok());
    let unknown = HEADER.replace("-1", "-9");
    let unknown = place.idp.sign(&unknown, &place.claims(&json!({})).to_string(), SignedBy::Rs256);
    let unknown = unknown.unwrap();
    for _ in 0..20 {
        let refused = place.verify_at(&unknown, Kind::AccessToken, now(22)).unwrap_err();
        assert_eq!(refused, TokenError::UnknownKey);
    }
    assert_eq!(place.idp.asked().unwrap().keys, 3);
    // Keys that the issuer has taken back end with the next fetch.
    place.idp.rotate(false).unwrap();
    assert!(place.verify_at(&old, Kind::AccessToken, now(30)).is_ok());
    let later = place.verify_at(&old, Kind::AccessToken, now(22 + 600));
    assert_eq!(later, Err(TokenError::UnknownKey));
}

#[test]
fn keys_that_are_tended_are_never_waited_for() {
    let place = Place::start();
    let sound = place.signed(&json!({"exp": now(0).unix_us / 1_000_000 + 3600}));
    let tend = |seconds| place.wait(place.provider.tend(now(seconds)));
    let asked = || place.idp.asked().unwrap().keys;
    assert_eq!((tend(0), asked()), (Ok(()), 1));
    assert_eq!((tend(470), asked()), (Ok(()), 1), "they are young");
    assert_eq!((tend(490), asked()), (Ok(()), 2), "they are soon old");
    assert!(place.verify_at(&sound, Kind::AccessToken, now(1000)).is_ok());
    assert_eq!(asked(), 2, "490 and 600 are more than 1000");
    place.idp.stop();
    assert_eq!(tend(1000), Err(TokenError::IssuerUnreachable));
    assert!(place.verify_at(&sound, Kind::AccessToken, now(1080)).is_ok());
}

#[test]
fn without_the_issuer_keys_stand_until_their_limit() {
    let place = Place::start();
    let sound = place.signed(&json!({"exp": now(0).unix_us / 1_000_000 + 200_000}));
    assert!(place.verify(&sound, Kind::AccessToken).is_ok());
    place.idp.stop();
    let at = |seconds| place.verify_at(&sound, Kind::AccessToken, now(seconds));
    assert!(at(60).is_ok());
    assert!(at(3600).is_ok(), "old keys stand");
    let standing = place.wait(place.provider.standing(now(3600)));
    assert!(standing.stands && standing.keys == 3, "{standing:?}");
    assert_eq!(standing.failed, Some(TokenError::IssuerUnreachable));
    assert!(at(24 * 3600 - 10).is_ok());
    assert_eq!(at(24 * 3600 + 10), Err(TokenError::IssuerUnreachable));
    assert!(!place.wait(place.provider.standing(now(24 * 3600 + 10))).stands);
    // Whether a key that was never seen is a new one, nobody can say.
    let header = HEADER.replace("-1", "-2");
    let place = Place::start();
    let unknown = place.idp.sign(&header, &place.claims(&json!({})).to_string(), SignedBy::Rs256);
    let unknown = unknown.unwrap();
    assert!(place.verify(&place.signed(&json!({})), Kind::AccessToken).is_ok());
    place.idp.stop();
    let refused = place.verify_at(&unknown, Kind::AccessToken, now(20));
    assert_eq!(refused, Err(TokenError::IssuerUnreachable));
}

#[test]
fn an_issuer_that_never_answers_lets_nobody_in_and_holds_nobody_up() {
    let place = Place::start();
    let sound = place.signed(&json!({}));
    place.idp.freeze().unwrap();
    let refused = place.verify(&sound, Kind::AccessToken);
    assert_eq!(refused, Err(TokenError::IssuerUnreachable));
    place.idp.thaw().unwrap();
    // Nor is it asked again at once.
    assert_eq!(place.verify(&sound, Kind::AccessToken), Err(TokenError::IssuerUnreachable));
    assert!(place.verify_at(&sound, Kind::AccessToken, now(11)).is_ok());
}

#[test]
fn a_tokens_issuer_is_found_among_several() {
    let (first, second) = (
        Place::start(),
        Place::start_with(|issuer| {
            issuer.groups = ClaimPath::parse("realm_access.roles");
            issuer.algorithms = vec![Algorithm::Es256];
        }),
    );
    let of_first = first.signed(&json!({}));
    let roles = second.claims(&json!({"realm_access": {"roles": ["teller"]}})).to_string();
    let header = r#"{"alg":"ES256","kid":"ES256-1","typ":"at+jwt"}"#;
    let of_second = second.idp.sign(header, &roles, SignedBy::Es256).unwrap();
    let by_rsa = second.signed(&json!({}));
    // The first's key over the second's name.
    let claims = second.claims(&json!({})).to_string();
    let forged = first.idp.sign(header, &claims, SignedBy::Es256).unwrap();
    let Place { idp: _first, provider: one, runtime } = first;
    let Place { idp: _second, provider: two, .. } = second;
    let providers = Providers::new(vec![one.into(), two.into()]).unwrap();
    let verify = |token: &str| {
        let token = Secret::new(token.to_owned());
        runtime.block_on(providers.verify(&token, Kind::AccessToken, now(0)))
    };
    assert_eq!(verify(&of_first).unwrap().groups, ["contractors".into()]);
    assert_eq!(verify(&of_second).unwrap().groups, ["teller".into()]);
    assert_eq!(verify(&by_rsa), Err(TokenError::Algorithm));
    assert_eq!(verify(&forged), Err(TokenError::BadSignature));
    let stranger = Place::start();
    assert_eq!(verify(&stranger.signed(&json!({}))), Err(TokenError::WrongIssuer));
}
