//! What a token is for: by its header, or by its claims where an issuer types all its tokens alike.
//!
//! RFC 9068 §2.1 has access tokens say `at+jwt`. Keycloak says `JWT` in the header of access and ID tokens, and which it
//! is in a claim `typ`: `Bearer` or `ID`. That is gone by for issuers that are configured so, and for no others.

use super::claims::Claims;
use super::compact::Compact;
use super::issuer::Issuer;
use super::token::{Kind, TokenError};

/// What the header of an issuer's access tokens says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessTokenTyp {
    /// `at+jwt`, as RFC 9068 has it.
    #[default]
    AtJwt,
    /// That, or `JWT` with `Bearer` for the claim `typ`.
    Jwt,
}

/// What ID tokens alone have (OpenID Connect Core 1.0 §2, §3.1.3.6, §3.3.2.11).
const OF_ID_TOKENS: [&str; 3] = ["nonce", "at_hash", "c_hash"];

/// What a token is for. Nothing in it is true before its signature was verified.
pub(super) fn kind(compact: &Compact<'_>, issuer: &Issuer) -> Result<Kind, TokenError> {
    let by_header = compact.header.kind;
    if by_header != Kind::IdToken {
        return Ok(by_header);
    }
    let claims = Claims(&compact.claims);
    match (claims.text("typ")?, issuer.access_token_typ) {
        (None | Some("ID"), _) => Ok(Kind::IdToken),
        (Some("Bearer"), AccessTokenTyp::Jwt) => {
            let is_id_token = OF_ID_TOKENS.iter().any(|name| compact.claims.contains_key(*name));
            if is_id_token { Err(TokenError::WrongKind) } else { Ok(Kind::AccessToken) }
        }
        // Refresh tokens say so as well; and what says that it is none is no ID token anywhere.
        (Some(_), AccessTokenTyp::Jwt) | (Some("Bearer"), AccessTokenTyp::AtJwt) => {
            Err(TokenError::WrongKind)
        }
        (Some(_), AccessTokenTyp::AtJwt) => Ok(Kind::IdToken),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use types::clock::Timestamp;

    use super::super::compact::Header;
    use super::super::issuer::Algorithm;
    use super::super::token::{Verified, judge, precheck};
    use super::*;

    fn issuer(access_token_typ: AccessTokenTyp) -> Issuer {
        let audiences = vec!["api".to_owned(), "us".to_owned()];
        Issuer { access_token_typ, ..Issuer::new("https://id.bank.example", audiences) }
    }

    /// A sound token of Keycloak's, of this kind by its header, with some of its claims as given; `null` is none.
    fn token(kind: Kind, more: &Value) -> Compact<'static> {
        let mut claims = json!({
            "iss": "https://id.bank.example", "sub": "carl", "aud": "api", "azp": "app", "typ": "Bearer",
            "exp": 1_000_100, "iat": 1_000_000, "jti": "1", "scope": "profile",
        });
        let claims = claims.as_object_mut().unwrap();
        claims.extend(more.as_object().unwrap().clone());
        claims.retain(|_, value| !value.is_null());
        let header = Header { algorithm: Algorithm::Rs256, key: "a".into(), kind };
        Compact { header, claims: claims.clone(), message: "", signature: "" }
    }

    fn read(
        typ: AccessTokenTyp,
        wanted: Kind,
        compact: &Compact<'_>,
    ) -> Result<Verified, TokenError> {
        let issuer = issuer(typ);
        precheck(compact, &issuer, wanted)?;
        judge(compact, &issuer, Timestamp { unix_us: 1_000_000_000_000, mono_ns: 0 })
    }

    const WRONG: Result<Kind, TokenError> = Err(TokenError::WrongKind);

    #[track_caller]
    fn check(
        typ: AccessTokenTyp,
        more: &Value,
        access: Result<Kind, TokenError>,
        id: Result<Kind, TokenError>,
    ) {
        let token = token(Kind::IdToken, more);
        let as_kind = |wanted| read(typ, wanted, &token).map(|verified| verified.kind);
        assert_eq!((as_kind(Kind::AccessToken), as_kind(Kind::IdToken)), (access, id), "{more}");
    }

    #[test]
    fn an_access_token_says_so_in_its_claims() {
        let more = json!({});
        check(AccessTokenTyp::Jwt, &more, Ok(Kind::AccessToken), WRONG);
        check(AccessTokenTyp::AtJwt, &more, WRONG, WRONG);
        let verified =
            read(AccessTokenTyp::Jwt, Kind::AccessToken, &token(Kind::IdToken, &more)).unwrap();
        assert_eq!(
            (verified.client_id.as_deref(), verified.token_id.as_deref()),
            (Some("app"), Some("1"))
        );
        // RFC 9068's are taken, too.
        let strict = token(Kind::AccessToken, &json!({"client_id": "app", "typ": null}));
        assert!(read(AccessTokenTyp::Jwt, Kind::AccessToken, &strict).is_ok());
        let unnamed = token(Kind::AccessToken, &json!({"typ": null}));
        let refused = read(AccessTokenTyp::Jwt, Kind::AccessToken, &unnamed).map(drop);
        assert_eq!(refused, Err(TokenError::MissingClaim), "its client is in client_id");
    }

    #[test]
    fn no_id_token_is_taken_for_one() {
        use AccessTokenTyp::{AtJwt, Jwt};
        let ours = json!({"aud": "us", "azp": "us"});
        for more in [json!({"typ": "ID"}), json!({"typ": null})] {
            let mut more = more;
            more.as_object_mut().unwrap().extend(ours.as_object().unwrap().clone());
            check(Jwt, &more, WRONG, Ok(Kind::IdToken));
            check(AtJwt, &more, WRONG, Ok(Kind::IdToken));
        }
        for name in OF_ID_TOKENS {
            check(Jwt, &json!({name: "x"}), WRONG, WRONG);
        }
        for typ in ["Refresh", "Offline", "bearer", "Logout", "DPoP"] {
            check(Jwt, &json!({"typ": typ, "aud": "us", "azp": "us"}), WRONG, WRONG);
        }
        // An ID token's audience is its client, which is none of the API's.
        check(Jwt, &json!({"aud": "other"}), Err(TokenError::WrongAudience), WRONG);
        let malformed = Err(TokenError::Malformed);
        check(Jwt, &json!({"typ": 1}), malformed, malformed);
    }

    #[test]
    fn what_an_access_token_must_have_it_must_have() {
        for (more, expected) in [
            (json!({"azp": null}), TokenError::MissingClaim),
            (json!({"jti": null}), TokenError::MissingClaim),
            (json!({"sub": null}), TokenError::Subject),
            (json!({"aud": null}), TokenError::WrongAudience),
        ] {
            check(AccessTokenTyp::Jwt, &more, Err(expected), WRONG);
        }
    }
}
