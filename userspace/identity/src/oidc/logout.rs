//! Logout tokens (OpenID Connect Back-Channel Logout 1.0 §2.4, §2.6).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use types::clock::Timestamp;
use types::secret::Secret;

use super::claims::Claims;
use super::compact::{Compact, TOKEN_BYTES_MAX};
use super::issuer::Issuer;
use super::token::{Envelope, TokenError, envelope};

/// Ids of logout tokens remembered: each up to 2 KiB of issuer and 255 bytes of id, in practice 100 bytes; 16,384 in
/// two minutes, as long as such a token stands, are 136 a second.
pub const REPLAYS_MAX: usize = 16_384;

/// The member of `events` that makes it a logout (§2.4).
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Who has logged out: a session, or every session of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logout {
    /// The issuer.
    pub issuer: Arc<str>,
    /// Of whom; with no session named, of all that is theirs.
    pub subject: Option<Arc<str>>,
    /// Which session at the issuer.
    pub session_id: Option<Arc<str>>,
    /// The token's own id.
    pub token_id: Arc<str>,
    /// When, seconds since 1970.
    pub issued_at: i64,
}

/// The token in the form that an issuer posts (§2.5); other members are left out (§2.5: unknown ones are ignored).
///
/// # Errors
/// If there is none, or more than one, or the form is larger than a token may be.
pub fn posted(form: &[u8]) -> Result<Secret<String>, TokenError> {
    // Every byte of a token may stand there as three, and something beside it.
    if form.len() > 4 * TOKEN_BYTES_MAX {
        return Err(TokenError::TooLarge);
    }
    let form = std::str::from_utf8(form).map_err(|_| TokenError::Malformed)?;
    let mut found = form.split('&').filter_map(|pair| pair.strip_prefix("logout_token="));
    let (Some(encoded), None) = (found.next(), found.next()) else {
        return Err(TokenError::Malformed);
    };
    decoded(encoded).map(Secret::new).ok_or(TokenError::Malformed)
}

/// A form's value; a `+` is a blank there and nowhere in a token.
fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut decoded = parts.next()?.to_owned();
    for part in parts {
        let digits = part.get(..2).filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()))?;
        let byte = u8::from_str_radix(digits, 16).ok()?;
        decoded.push(char::from(byte));
        decoded.push_str(part.get(2..)?);
    }
    Some(decoded)
}

/// Reads and checks the claims of a logout token, with a signature that is verified. Answers when it can be
/// forgotten, too: seconds since 1970.
pub(super) fn judge(
    compact: &Compact<'_>,
    issuer: &Issuer,
    now: Timestamp,
) -> Result<(Logout, i64), TokenError> {
    let claims = Claims(&compact.claims);
    let Envelope { audiences: _, issued_at, expires_at, not_before: _ } =
        envelope(claims, issuer, now)?;
    let is_logout =
        claims.get("events").and_then(|events| events.get(EVENT)).is_some_and(Value::is_object);
    // §2.4: a nonce would let it pass for an ID token elsewhere.
    if !is_logout || claims.0.contains_key("nonce") {
        return Err(TokenError::Event);
    }
    let subject = claims.text("sub").map_err(|_| TokenError::Subject)?.map(Arc::from);
    let session_id = claims.text("sid")?.map(Arc::from);
    if subject.is_none() && session_id.is_none() {
        return Err(TokenError::Subject);
    }
    let token_id = claims.text("jti")?.ok_or(TokenError::MissingClaim)?.into();
    let issuer_url = issuer.url.as_str().into();
    let logout = Logout { issuer: issuer_url, subject, session_id, token_id, issued_at };
    let skew_s = i64::try_from(issuer.clock_skew_s).unwrap_or(0);
    Ok((logout, expires_at.saturating_add(skew_s)))
}

/// Issuer and id of a token.
type Id = (Arc<str>, Arc<str>);

/// The logout tokens that were here, as long as they would be accepted again.
#[derive(Debug, Default)]
pub struct Replays {
    seen: Mutex<HashMap<Id, i64>>,
}

impl Replays {
    /// Takes a token's id in.
    ///
    /// A full memory forgets the one that is over next: to fill it takes tokens that the issuer has signed, and a
    /// logout that comes twice ends nothing that is not ended.
    ///
    /// # Errors
    /// If it was here before.
    pub(super) fn take(
        &self,
        logout: &Logout,
        until_s: i64,
        now: Timestamp,
    ) -> Result<(), TokenError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now_s = now.unix_us.div_euclid(1_000_000);
        let id = (Arc::clone(&logout.issuer), Arc::clone(&logout.token_id));
        if seen.get(&id).is_some_and(|until_s| *until_s > now_s) {
            return Err(TokenError::Replayed);
        }
        if seen.len() >= REPLAYS_MAX {
            seen.retain(|_, until_s| *until_s > now_s);
        }
        if seen.len() >= REPLAYS_MAX {
            let next = seen.iter().min_by_key(|(_, until_s)| **until_s).map(|(id, _)| id.clone());
            next.and_then(|id| seen.remove(&id));
        }
        seen.insert(id, until_s);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp { unix_us: seconds * 1_000_000, mono_ns: 0 }
    }

    fn logout(id: &str) -> Logout {
        Logout {
            issuer: "https://id.bank.example".into(),
            subject: Some("carl".into()),
            session_id: None,
            token_id: id.into(),
            issued_at: 0,
        }
    }

    #[test]
    fn what_was_here_is_refused_until_it_is_over_anyhow() {
        let replays = Replays::default();
        assert_eq!(replays.take(&logout("a"), 100, at(0)), Ok(()));
        assert_eq!(replays.take(&logout("a"), 100, at(99)), Err(TokenError::Replayed));
        assert_eq!(replays.take(&logout("b"), 100, at(99)), Ok(()));
        assert_eq!(replays.take(&logout("a"), 200, at(100)), Ok(()));
    }

    #[test]
    fn a_posted_token_is_found() {
        let of = |form: &str| posted(form.as_bytes()).map(|token| token.expose().clone());
        assert_eq!(of("logout_token=a.b-_.c").as_deref(), Ok("a.b-_.c"));
        assert_eq!(of("x=1&logout_token=a%2Eb%2e&y").as_deref(), Ok("a.b."));
        for form in [
            "",
            "token=a",
            "logout_token=a&logout_token=b",
            "logout_token=%",
            "logout_token=%+1",
            "logout_token=%4ä",
        ] {
            assert_eq!(of(form), Err(TokenError::Malformed), "{form}");
        }
        assert_eq!(of(&format!("logout_token={}", "a".repeat(70_000))), Err(TokenError::TooLarge));
    }

    #[test]
    fn the_memory_is_bounded() {
        let replays = Replays::default();
        for n in 0..REPLAYS_MAX {
            replays.take(&logout(&n.to_string()), 100 + i64::try_from(n).unwrap(), at(0)).unwrap();
        }
        assert_eq!(replays.take(&logout("more"), 1_000_000, at(0)), Ok(()));
        assert_eq!(replays.seen.lock().unwrap().len(), REPLAYS_MAX);
        assert_eq!(replays.take(&logout("more"), 1_000_000, at(0)), Err(TokenError::Replayed));
        // What is over makes room for all that comes.
        assert_eq!(replays.take(&logout("later"), 2_000_000, at(900_000)), Ok(()));
        assert_eq!(replays.seen.lock().unwrap().len(), 2);
    }
}
