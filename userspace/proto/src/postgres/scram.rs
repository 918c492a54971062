//! SCRAM-SHA-256, both ends of it (RFC 5802, RFC 7677; PostgreSQL documentation, "SASL
//! Authentication").
//!
//! What is computed once for each secret, salt and count ([`ScramKeys`]) is apart from what is
//! computed for each login, so that its hundreds of milliseconds at worst are spent elsewhere.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use types::secret::Secret;

/// The mechanism without channel binding.
pub(super) const PLAIN: &str = "SCRAM-SHA-256";

/// The mechanism with channel binding.
pub(super) const PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The fewest rounds accepted (RFC 7677 §4): with fewer, a false server would learn something that a
/// secret is quickly guessed from.
const ITERATIONS_MIN: u32 = 4_096;

/// The most rounds accepted: about half a second of one core.
const ITERATIONS_MAX: u32 = 1_000_000;

/// The longest server-first-message that is read: PostgreSQL's own has about 90 bytes.
const MESSAGE_BYTES_MAX: usize = 1_024;

/// What a login needs of a secret for one salt and one count of rounds.
#[derive(Clone, Debug)]
pub struct ScramKeys {
    client: Secret<[u8; 32]>,
    server: Secret<[u8; 32]>,
}

impl ScramKeys {
    /// Computes the keys. This takes long: two compressions of SHA-256 for each round.
    pub fn derive(secret: &Secret<Vec<u8>>, wanted: &KeysWanted) -> Self {
        let salted = salted(secret, &wanted.salt, wanted.iterations);
        let client = Secret::new(keyed(salted.expose(), &[b"Client Key"]));
        let server = Secret::new(keyed(salted.expose(), &[b"Server Key"]));
        Self { client, server }
    }
}

impl ScramKeys {
    /// What a server keeps of a password (PostgreSQL documentation, `pg_authid`):
    /// `SCRAM-SHA-256$ITERATIONS:SALT$StoredKey:ServerKey`.
    pub fn verifier(&self, of: &KeysWanted) -> Secret<String> {
        let stored: [u8; 32] = Sha256::digest(self.client.expose()).into();
        Secret::new(format!(
            "{PLAIN}${}:{}${}:{}",
            of.iterations,
            BASE64.encode(&of.salt),
            BASE64.encode(stored),
            BASE64.encode(self.server.expose()),
        ))
    }
}

/// What keys are to be computed from, besides the secret: the server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysWanted {
    /// The account's salt.
    pub salt: Box<[u8]>,
    /// Rounds of PBKDF2; between 4,096 and 1,000,000.
    pub iterations: u32,
}

/// What a placeholder is verified with; as good as the placeholder itself.
#[derive(Clone, Debug)]
pub struct Verifier {
    salt: [u8; 16],
    keys: ScramKeys,
}

impl Verifier {
    /// A verifier of a password that clients are to have; `salt` is random.
    pub fn new(placeholder: &Secret<Vec<u8>>, salt: [u8; 16]) -> Self {
        let wanted = KeysWanted { salt: salt.into(), iterations: ITERATIONS_MIN };
        Self { salt, keys: ScramKeys::derive(placeholder, &wanted) }
    }
}

/// What binds an exchange to its channel, as the client's first message says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// The client can't.
    Unsupported,
    /// The client could, the server did not offer it.
    NotOffered,
    /// To the server's certificate.
    EndPoint(Box<[u8]>),
}

impl Binding {
    fn header(&self) -> &'static str {
        match self {
            Self::Unsupported => "n,,",
            Self::NotOffered => "y,,",
            Self::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    /// `cbind-input` in Base64.
    fn input(&self) -> String {
        let mut input = self.header().as_bytes().to_vec();
        if let Self::EndPoint(hash) = self {
            input.extend_from_slice(hash);
        }
        BASE64.encode(input)
    }
}

/// Why an exchange fails, in fixed words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Failed(pub(super) &'static str);

const MALFORMED: Failed = Failed("a malformed SCRAM message");

/// The client's end.
#[derive(Debug)]
pub(super) struct Client {
    binding: Binding,
    nonce: String,
    /// `server-first-message`, `client-final-message-without-proof`.
    rest: Option<(String, String)>,
    signature: Option<[u8; 32]>,
}

impl Client {
    /// The client's end of an exchange; `nonce` is random.
    pub(super) fn new(binding: Binding, nonce: &Nonce) -> Self {
        Self { binding, nonce: nonce.text(), rest: None, signature: None }
    }

    /// `client-first-message`; PostgreSQL takes the user's name from the startup packet.
    pub(super) fn first(&self) -> String {
        format!("{}{}", self.binding.header(), self.first_bare())
    }

    fn first_bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// Takes `server-first-message`; answers what keys the proof is made with.
    pub(super) fn server_first(&mut self, message: &[u8]) -> Result<KeysWanted, Failed> {
        if self.rest.is_some() || message.len() > MESSAGE_BYTES_MAX {
            return Err(MALFORMED);
        }
        let text = std::str::from_utf8(message).map_err(|_| MALFORMED)?;
        let mut fields = Fields(text);
        let (nonce, salt) = (fields.next('r')?, fields.next('s')?);
        let iterations = fields.next('i')?;
        fields.end()?;
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(Failed("a SCRAM nonce that does not continue ours"));
        }
        let iterations = iterations.parse().map_err(|_| MALFORMED)?;
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) {
            return Err(Failed("a count of SCRAM iterations below 4096 or above 1000000"));
        }
        let salt: Box<[u8]> = BASE64.decode(salt).map_err(|_| MALFORMED)?.into();
        if salt.is_empty() {
            return Err(MALFORMED);
        }
        let without_proof = format!("c={},r={nonce}", self.binding.input());
        self.rest = Some((text.to_owned(), without_proof));
        Ok(KeysWanted { salt, iterations })
    }

    /// `client-final-message`; `None` before the server's first.
    pub(super) fn last(&mut self, keys: &ScramKeys) -> Option<String> {
        let (server_first, without_proof) = self.rest.as_ref()?;
        let bare = self.first_bare();
        let said = [bare.as_str(), ",", server_first, ",", without_proof].map(str::as_bytes);
        let stored: [u8; 32] = Sha256::digest(keys.client.expose()).into();
        let mut proof = keyed(&stored, &said);
        for (byte, key) in proof.iter_mut().zip(keys.client.expose()) {
            *byte ^= key;
        }
        self.signature = Some(keyed(keys.server.expose(), &said));
        Some(format!("{without_proof},p={}", BASE64.encode(proof)))
    }

    /// Takes `server-final-message`: whether the server knows the secret too.
    pub(super) fn server_final(&mut self, message: &[u8]) -> Result<(), Failed> {
        let text = std::str::from_utf8(message).map_err(|_| MALFORMED)?;
        let mut fields = Fields(text);
        let Ok(signature) = fields.next('v') else {
            return Err(Failed("the target refused the credential"));
        };
        fields.end()?;
        let signature = BASE64.decode(signature).map_err(|_| MALFORMED)?;
        let own = self.signature.take().ok_or(MALFORMED)?;
        if bool::from(own.as_slice().ct_eq(&signature)) {
            Ok(())
        } else {
            Err(Failed("the target does not know the credential's secret: a false server"))
        }
    }
}

/// The server's end.
#[derive(Debug)]
pub(super) struct Server {
    verifier: Verifier,
    /// The hash of our certificate, where the channel has one.
    end_point: Option<Box<[u8]>>,
    nonce: String,
    /// The binding, `client-first-message-bare`, `server-first-message`, both nonces.
    begun: Option<(Binding, String, String, String)>,
}

impl Server {
    /// The server's end of an exchange; `nonce` is random.
    pub(super) fn new(verifier: Verifier, end_point: Option<Box<[u8]>>, nonce: &Nonce) -> Self {
        Self { verifier, end_point, nonce: nonce.text(), begun: None }
    }

    /// What is offered, the best first.
    pub(super) fn mechanisms(&self) -> Vec<&'static str> {
        if self.end_point.is_some() { vec![PLUS, PLAIN] } else { vec![PLAIN] }
    }

    /// Whether `client-first-message` was taken.
    pub(super) fn is_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// Takes the mechanism and `client-first-message`; answers `server-first-message`.
    pub(super) fn client_first(&mut self, name: &[u8], message: &[u8]) -> Result<String, Failed> {
        if self.begun.is_some() || message.len() > MESSAGE_BYTES_MAX {
            return Err(MALFORMED);
        }
        let text = std::str::from_utf8(message).map_err(|_| MALFORMED)?;
        let mut parts = text.splitn(3, ',');
        let (Some(flag), Some(""), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(MALFORMED);
        };
        let name = std::str::from_utf8(name).map_err(|_| MALFORMED)?;
        let binding = match (flag, name, &self.end_point) {
            ("n", PLAIN, _) => Binding::Unsupported,
            // It could bind the channel: had it seen our offer, it would have.
            ("y", PLAIN, Some(_)) => return Err(Failed("channel binding was stripped on the way")),
            ("y", PLAIN, None) => Binding::NotOffered,
            ("p=tls-server-end-point", PLUS, Some(hash)) => Binding::EndPoint(hash.clone()),
            _ => return Err(Failed("a SCRAM mechanism or channel binding that was not offered")),
        };
        let mut fields = Fields(bare);
        fields.next('n')?;
        let client_nonce = fields.next('r')?;
        fields.end()?;
        if client_nonce.is_empty() || !client_nonce.bytes().all(|b| (0x21..0x7f).contains(&b)) {
            return Err(MALFORMED);
        }
        let nonce = format!("{client_nonce}{}", self.nonce);
        let salt = BASE64.encode(self.verifier.salt);
        let first = format!("r={nonce},s={salt},i={ITERATIONS_MIN}");
        self.begun = Some((binding, bare.to_owned(), first.clone(), nonce));
        Ok(first)
    }

    /// Takes `client-final-message`; answers `server-final-message`.
    pub(super) fn client_final(&mut self, message: &[u8]) -> Result<String, Failed> {
        let (binding, bare, first, nonce) = self.begun.take().ok_or(MALFORMED)?;
        let text = std::str::from_utf8(message).map_err(|_| MALFORMED)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(MALFORMED)?;
        let mut fields = Fields(without_proof);
        let (input, returned) = (fields.next('c')?, fields.next('r')?);
        fields.end()?;
        if returned != nonce {
            return Err(MALFORMED);
        }
        if input != binding.input() {
            return Err(Failed("a channel binding that is not this channel's"));
        }
        let proof: [u8; 32] =
            BASE64.decode(proof).ok().and_then(|p| p.try_into().ok()).ok_or(MALFORMED)?;
        let said = [bare.as_str(), ",", &first, ",", without_proof].map(str::as_bytes);
        let keys = &self.verifier.keys;
        let stored: [u8; 32] = Sha256::digest(keys.client.expose()).into();
        // ClientProof XOR ClientSignature is the client's key, whose hash is the stored one.
        let mut key = keyed(&stored, &said);
        for (byte, proof) in key.iter_mut().zip(proof) {
            *byte ^= proof;
        }
        let claimed: [u8; 32] = Sha256::digest(key).into();
        if !bool::from(claimed.ct_eq(&stored)) {
            return Err(Failed("the agent's password is not the placeholder"));
        }
        Ok(format!("v={}", BASE64.encode(keyed(keys.server.expose(), &said))))
    }
}

/// Random bytes for one end of an exchange.
#[derive(Clone, Debug)]
pub struct Nonce(pub [u8; 18]);

impl Nonce {
    fn text(&self) -> String {
        BASE64.encode(self.0)
    }
}

/// The attributes of a message, in their order.
struct Fields<'a>(&'a str);

impl<'a> Fields<'a> {
    /// The next attribute, which must be `name`.
    fn next(&mut self, name: char) -> Result<&'a str, Failed> {
        let (field, rest) = self.0.split_once(',').unwrap_or((self.0, ""));
        self.0 = rest;
        field.strip_prefix(name).and_then(|field| field.strip_prefix('=')).ok_or(MALFORMED)
    }

    /// No attribute is left; an extension that is not known can't be left out (RFC 5802 §5.1).
    fn end(&self) -> Result<(), Failed> {
        if self.0.is_empty() { Ok(()) } else { Err(MALFORMED) }
    }
}

/// PBKDF2 with HMAC-SHA-256 (RFC 8018 §5.2), one block.
fn salted(secret: &Secret<Vec<u8>>, salt: &[u8], iterations: u32) -> Secret<[u8; 32]> {
    let prepared = prepared(secret);
    let keyed = mac(prepared.expose());
    let mut first = keyed.clone();
    first.update(salt);
    first.update(&1_u32.to_be_bytes());
    let mut block: [u8; 32] = first.finalize().into_bytes().into();
    let mut salted = block;
    for _ in 1..iterations {
        let mut next = keyed.clone();
        next.update(&block);
        block = next.finalize().into_bytes().into();
        for (byte, new) in salted.iter_mut().zip(block) {
            *byte ^= new;
        }
    }
    Secret::new(salted)
}

/// A secret as SASLprep (RFC 4013) makes it; as it is where it can't, which is what PostgreSQL does.
fn prepared(secret: &Secret<Vec<u8>>) -> Secret<Vec<u8>> {
    let text = std::str::from_utf8(secret.expose()).ok();
    match text.and_then(|text| stringprep::saslprep(text).ok()) {
        Some(std::borrow::Cow::Owned(text)) => Secret::new(text.into_bytes()),
        _ => secret.clone(),
    }
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn keyed(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = mac(key);
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret<Vec<u8>> {
        Secret::new(text.as_bytes().to_vec())
    }

    /// Both ends against each other; answers what failed.
    fn exchange(client: &mut Client, server: &mut Server, password: &str) -> Result<(), Failed> {
        let name = if matches!(client.binding, Binding::EndPoint(_)) { PLUS } else { PLAIN };
        let first = server.client_first(name.as_bytes(), client.first().as_bytes())?;
        let wanted = client.server_first(first.as_bytes())?;
        let keys = ScramKeys::derive(&secret(password), &wanted);
        let last = server.client_final(client.last(&keys).unwrap().as_bytes())?;
        client.server_final(last.as_bytes())
    }

    fn ends(binding: Binding, end_point: Option<&[u8]>) -> (Client, Server) {
        let verifier = Verifier::new(&secret("pencil"), [7; 16]);
        let server = Server::new(verifier, end_point.map(Into::into), &Nonce([2; 18]));
        (Client::new(binding, &Nonce([1; 18])), server)
    }

    /// RFC 7677 §3.
    #[test]
    fn the_examples_of_the_rfc() {
        let mut client = Client::new(Binding::Unsupported, &Nonce([0; 18]));
        client.nonce = "rOprNGfwEbeRWgbNEkqO".into();
        let server_first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                            s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let wanted = client.server_first(server_first.as_bytes()).unwrap();
        // PostgreSQL leaves the name out of the message; the example has one.
        let keys = ScramKeys::derive(&secret("pencil"), &wanted);
        let without = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let said = ["n=user,r=rOprNGfwEbeRWgbNEkqO", ",", server_first, ",", without];
        let said = said.map(str::as_bytes);
        let stored: [u8; 32] = Sha256::digest(keys.client.expose()).into();
        let mut proof = keyed(&stored, &said);
        proof.iter_mut().zip(keys.client.expose()).for_each(|(byte, key)| *byte ^= key);
        assert_eq!(BASE64.encode(proof), "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        let signature = BASE64.encode(keyed(keys.server.expose(), &said));
        assert_eq!(signature, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn both_ends_agree_or_do_not() {
        let bound = || Binding::EndPoint((*b"hash").into());
        for (binding, end_point, password, good) in [
            (Binding::Unsupported, None, "pencil", true),
            (Binding::NotOffered, None, "pencil", true),
            (bound(), Some(b"hash".as_slice()), "pencil", true),
            (Binding::Unsupported, Some(b"hash"), "pencil", true),
            (Binding::Unsupported, None, "crayon", false),
            (Binding::NotOffered, Some(b"hash"), "pencil", false),
            (bound(), Some(b"other"), "pencil", false),
            (bound(), None, "pencil", false),
        ] {
            let (mut client, mut server) = ends(binding.clone(), end_point);
            let found = exchange(&mut client, &mut server, password);
            assert_eq!(found.is_ok(), good, "{binding:?} {end_point:?} {password}: {found:?}");
        }
    }

    #[test]
    fn passwords_are_prepared() {
        let wanted = KeysWanted { salt: [1].into(), iterations: ITERATIONS_MIN };
        let key = |text: &str| *ScramKeys::derive(&secret(text), &wanted).client.expose();
        // RFC 4013 §3: a soft hyphen maps to nothing, compatibility characters to their like.
        assert_eq!(key("I\u{ad}X"), key("IX"));
        assert_eq!(key("\u{2168}"), key("IX"));
        // What can't be prepared is taken as it is.
        assert_ne!(key("a\u{7}"), key("a"));
    }

    #[test]
    fn what_a_server_may_not_say() {
        let own = Nonce([1; 18]).text();
        for (message, what) in [
            (format!("r={own},s=AAAA,i=4096"), "nonce"),
            (format!("r=x{own}x,s=AAAA,i=4096"), "nonce"),
            (format!("r={own}x,s=AAAA,i=4095"), "iterations"),
            (format!("r={own}x,s=AAAA,i=1000001"), "iterations"),
            (format!("r={own}x,s=AAAA,i=-1"), "malformed"),
            (format!("r={own}x,s=AAAA,i=99999999999999999999"), "malformed"),
            (format!("r={own}x,s=,i=4096"), "malformed"),
            (format!("r={own}x,s=!,i=4096"), "malformed"),
            (format!("m=x,r={own}x,s=AAAA,i=4096"), "malformed"),
            (format!("r={own}x,s=AAAA,i=4096,x=y"), "malformed"),
            (format!("r={own}{},s=AAAA,i=4096", "x".repeat(2_000)), "malformed"),
            (String::new(), "malformed"),
        ] {
            let (mut client, _) = ends(Binding::Unsupported, None);
            let failed = client.server_first(message.as_bytes()).unwrap_err();
            assert!(failed.0.contains(what), "{message}: {failed}");
        }
        let (mut client, mut server) = ends(Binding::Unsupported, None);
        let first = server.client_first(PLAIN.as_bytes(), client.first().as_bytes()).unwrap();
        let wanted = client.server_first(first.as_bytes()).unwrap();
        client.last(&ScramKeys::derive(&secret("pencil"), &wanted)).unwrap();
        let forged = format!("v={}", BASE64.encode([0; 32]));
        assert!(client.server_final(forged.as_bytes()).unwrap_err().0.contains("false server"));
    }

    #[test]
    fn nothing_is_seen_of_keys() {
        let verifier = Verifier::new(&secret("pencil"), [7; 16]);
        let keys = format!("{:?}", verifier.keys);
        assert_eq!(keys, "ScramKeys { client: Secret(…), server: Secret(…) }");
    }
}
