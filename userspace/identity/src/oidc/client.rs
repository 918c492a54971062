//! Who asks an issuer's endpoints: a client, with a secret or without.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use types::secret::Secret;

/// A registered client.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its id.
    pub id: String,
    /// Its secret, sent by `client_secret_basic` (RFC 6749 §2.3.1); a public client has none and says its id only.
    pub secret: Option<Secret<String>>,
}

impl Client {
    /// The header that says who asks; a public client has none.
    pub(super) fn authorization(&self) -> Option<Secret<String>> {
        let Self { id, secret } = self;
        let secret = secret.as_ref()?;
        let mut pair = Secret::new(String::new());
        pair.expose_mut(|pair| {
            encode(id, pair);
            pair.push(':');
            encode(secret.expose(), pair);
        });
        let mut header = Secret::new("Basic ".to_owned());
        header.expose_mut(|header| STANDARD.encode_string(pair.expose(), header));
        Some(header)
    }

    /// A form's body; a public client's id is in it.
    pub(super) fn body(&self, form: &[(&str, &str)]) -> Secret<String> {
        let own = [("client_id", self.id.as_str())];
        let own: &[(&str, &str)] = if self.secret.is_none() { &own } else { &[] };
        let mut body = Secret::new(String::new());
        body.expose_mut(|body| {
            for (name, value) in form.iter().chain(own) {
                if !body.is_empty() {
                    body.push('&');
                }
                encode(name, body);
                body.push('=');
                encode(value, body);
            }
        });
        body
    }
}

/// Appends a text in application/x-www-form-urlencoded, every byte but the unreserved as `%XX`: what any reader takes.
fn encode(text: &str, to: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| char::from(HEX.get(usize::from(nibble)).copied().unwrap_or(b'0'));
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            to.push(char::from(byte));
        } else {
            to.push('%');
            to.push(digit(byte >> 4));
            to.push(digit(byte & 15));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_name_and_secret_are_encoded_before_they_are_joined() {
        let client = Client { id: "a:b".into(), secret: Some(Secret::new("p ä+".into())) };
        let header = client.authorization().unwrap();
        let sent = STANDARD.decode(header.expose().strip_prefix("Basic ").unwrap()).unwrap();
        assert_eq!(sent, b"a%3Ab:p%20%C3%A4%2B");
        assert_eq!(client.body(&[("x", "1&2"), ("y", "=")]).expose(), "x=1%262&y=%3D");
        assert!(!format!("{client:?}").contains('+'));
    }

    #[test]
    fn a_public_client_says_its_id() {
        let client = Client { id: "cli".into(), secret: None };
        assert!(client.authorization().is_none());
        assert_eq!(client.body(&[("x", "1")]).expose(), "x=1&client_id=cli");
    }
}
