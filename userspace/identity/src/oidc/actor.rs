//! The `act` claim (RFC 8693 §4.1): who acts for the subject.

use std::sync::Arc;

use serde_json::Value;
use types::identity::{ACTORS_MAX, Actor};

use super::claims::Claims;
use super::token::TokenError;

/// The links from the outermost `act`, which is who acts now, to the innermost, which is who acted first; at most
/// [`ACTORS_MAX`].
pub(super) fn chain(claims: Claims<'_>, issuer: &Arc<str>) -> Result<Vec<Actor>, TokenError> {
    let mut links = Vec::new();
    let mut within = claims;
    while let Some(act) = within.get("act") {
        let Value::Object(act) = act else { return Err(TokenError::Malformed) };
        if links.len() == ACTORS_MAX {
            return Err(TokenError::ActorDepth);
        }
        within = Claims(act);
        let named = within.get("iss").map(|_| within.url("iss")).transpose()?;
        links.push(Actor {
            // Where the claim names nobody, it is the token's own issuer that knows the actor.
            idp: named.map_or_else(|| Arc::clone(issuer), Arc::from),
            sub: within.text("sub")?.ok_or(TokenError::MissingClaim)?.into(),
            client: within.text("client_id")?.map(Arc::from),
        });
    }
    Ok(links)
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;

    fn nested(depth: usize) -> String {
        let open = r#""act":{"sub":"a","#.repeat(depth);
        format!(r#"{{{open}"x":1{}"#, "}".repeat(depth + 1))
    }

    #[track_caller]
    fn read(text: &str) -> Result<Vec<Actor>, TokenError> {
        let object = json::object(text.as_bytes()).unwrap();
        chain(Claims(&object), &"https://id.bank.example".into())
    }

    #[test]
    fn links_come_from_the_outermost_to_the_innermost() {
        let links = read(
            r#"{"act":{"sub":"b","iss":"https://b.example","client_id":"c","act":{"sub":"a"}}}"#,
        );
        let links = links.unwrap();
        assert_eq!(
            links.iter().map(|a| (&*a.idp, &*a.sub, a.client.as_deref())).collect::<Vec<_>>(),
            [("https://b.example", "b", Some("c")), ("https://id.bank.example", "a", None)]
        );
        assert!(read("{}").unwrap().is_empty());
    }

    #[test]
    fn a_chain_is_no_longer_than_its_bound() {
        assert_eq!(read(&nested(ACTORS_MAX)).unwrap().len(), ACTORS_MAX);
        assert_eq!(read(&nested(ACTORS_MAX + 1)), Err(TokenError::ActorDepth));
    }

    #[test]
    fn an_actor_has_a_name() {
        assert_eq!(read(r#"{"act":{}}"#), Err(TokenError::MissingClaim));
        assert_eq!(read(r#"{"act":{"sub":"a","act":{"sub":1}}}"#), Err(TokenError::Malformed));
        assert_eq!(read(r#"{"act":"a"}"#), Err(TokenError::Malformed));
        assert_eq!(read(r#"{"act":[{"sub":"a"}]}"#), Err(TokenError::Malformed));
    }
}
