//! An OpenID provider of one's own: npm's oidc-provider on a port of 127.0.0.1, and users that do what they are told.
//!
//! Clients: [`CLIENT`] and [`AGENT_CLIENT`] with [`SECRET`], [`PUBLIC_CLIENT`] without. Users: [`ALICE`] of the group
//! `staff`, [`CARL`] of `contractors`, [`DANA`] of `dba`, [`RUTH`] of `risk`. Access tokens are JWTs where a resource of
//! [`RESOURCES`] is asked for. A login without `offline_access` ends with the user's session.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::certificates::Certificates;
use crate::paths;
use crate::port::Port;
use crate::process::Running;

/// The program that runs the provider.
const PROGRAM: &str = "tests/src/idp.mjs";

/// A user of the group `staff`.
pub const ALICE: &str = "alice";

/// A user of the group `contractors`.
pub const CARL: &str = "carl";

/// A user of the group `dba`.
pub const DANA: &str = "dana";

/// A user of the group `risk`.
pub const RUTH: &str = "ruth";

/// The password by which any user logs in at the provider's own form.
pub const PASSWORD: &str = "synthetic only, too";

/// The daemon's client: device flow, exchange, its own tokens, introspection, revocation; authorization code once
/// it has a place to send browsers to ([`Idp::set_redirects`]).
pub const CLIENT: &str = "vestibule";

/// An agent's client: exchange and its own tokens.
pub const AGENT_CLIENT: &str = "report-agent";

/// A client without a secret: device flow.
pub const PUBLIC_CLIENT: &str = "vestibule-cli";

/// The secret of the clients that have one.
pub const SECRET: &str = "a test's own / secret: 1+1";

/// Audiences of access tokens, signed by RS256, ES256 and EdDSA.
pub const RESOURCES: [&str; 3] =
    ["https://bank.example/api", "https://bank.example/es", "https://bank.example/ed"];

/// A key that [`Idp::sign`] signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignedBy {
    /// The provider's RSA key.
    Rs256,
    /// The provider's key on P-256.
    Es256,
    /// The provider's key on Ed25519.
    EdDsa,
    /// HMAC, with the PEM of the provider's public RSA key for a secret.
    PublicKeyAsSecret,
    /// Nobody: the signature is empty.
    Nobody,
}

/// How often the provider was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// For what it says of itself.
    pub discovery: u64,
    /// For its keys.
    pub keys: u64,
    /// About a token.
    pub introspections: u64,
}

/// What a client has after a user's login.
#[derive(Clone, Debug)]
pub struct UserTokens {
    /// An access token, for the first of [`RESOURCES`] where nothing else is said.
    pub access: String,
    /// An ID token for [`CLIENT`].
    pub id: String,
    /// What new ones are had with, until the user logs out.
    pub refresh: String,
}

/// A provider that runs until it is dropped.
#[derive(Debug)]
pub struct Idp {
    process: Mutex<Running>,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    port: Port,
    scheme: &'static str,
}

impl Idp {
    /// Starts one, and waits until it listens.
    ///
    /// # Errors
    /// If it is not installed or ends.
    pub fn start() -> Result<Self> {
        Self::start_with(None)
    }

    /// Starts one that speaks TLS alone, with the server's certificate: one for 127.0.0.1.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_tls(certificates: &Certificates) -> Result<Self> {
        Self::start_with(Some(certificates))
    }

    fn start_with(certificates: Option<&Certificates>) -> Result<Self> {
        let port = Port::take()?;
        let tls = certificates.map(
            |files| json!({"cert": files.path("server.crt"), "key": files.path("server.key")}),
        );
        let options = json!({
            "port": port.number(), "modules": paths::node_modules(), "secret": SECRET, "tls": tls,
            "password": PASSWORD,
        });
        let mut command = Command::new(paths::provider_node());
        if let Some(certificates) = certificates {
            // Its users trust the bank's authority.
            command.env("NODE_EXTRA_CA_CERTS", certificates.path("bank.crt"));
        }
        command.arg(paths::root().join(PROGRAM)).arg(options.to_string());
        // The environment's own options of node are not the provider's.
        command.env_remove("NODE_OPTIONS").env_remove("NODE_PATH");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Running::new("oidc-provider", &mut command)
            .context("no provider: cargo xtask setup")?;
        let stdin = process.take_stdin().context("its input is a pipe")?;
        let stdout = process.take_stdout().context("its output is a pipe")?;
        let pipes = Mutex::new((stdin, BufReader::new(stdout)));
        let scheme = if certificates.is_some() { "https" } else { "http" };
        let own = Self { process: Mutex::new(process), pipes, port, scheme };
        answer(&mut own.pipes().1).context("oidc-provider does not listen")?;
        Ok(own)
    }

    /// Answers its issuer identifier.
    pub fn issuer(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port.number())
    }

    /// Has a user open the page of a device flow, log in and approve.
    ///
    /// # Errors
    /// If the provider does not take the code.
    pub fn approve(&self, user: &str, user_code: &str) -> Result<()> {
        self.tell(&json!({"do": "approve", "user": user, "user_code": user_code})).map(drop)
    }

    /// Has a user open the page of a device flow and refuse.
    ///
    /// # Errors
    /// If the provider does not take the code.
    pub fn deny(&self, user: &str, user_code: &str) -> Result<()> {
        self.tell(&json!({"do": "deny", "user": user, "user_code": user_code})).map(drop)
    }

    /// Has a user log in for [`CLIENT`], by a device flow that is approved at once.
    ///
    /// # Errors
    /// If the provider refuses.
    pub fn login(&self, user: &str) -> Result<UserTokens> {
        self.login_for(user, RESOURCES[0])
    }

    /// The same with an access token for another of [`RESOURCES`].
    ///
    /// # Errors
    /// If the provider refuses.
    pub fn login_for(&self, user: &str, resource: &str) -> Result<UserTokens> {
        let scope = "openid profile groups bank";
        let told =
            self.tell(&json!({"do": "login", "user": user, "scope": scope, "resource": resource}))?;
        let text = |name: &str| {
            told[name].as_str().map(str::to_owned).with_context(|| format!("no {name}"))
        };
        Ok(UserTokens {
            access: text("access_token")?,
            id: text("id_token")?,
            refresh: text("refresh_token")?,
        })
    }

    /// Has it keep account of JWTs from now on, as some providers do: they can be introspected and revoked as
    /// opaque tokens can. Otherwise it answers `unsupported_token_type`.
    ///
    /// # Errors
    /// If it can't.
    pub fn keep_account(&self) -> Result<()> {
        self.tell(&json!({"do": "account"})).map(drop)
    }

    /// Has it say of every JWT with this `jti` or this `sub` that it is not active; needs [`Self::keep_account`].
    ///
    /// # Errors
    /// If it can't.
    pub fn revoke(&self, id_or_user: &str) -> Result<()> {
        self.tell(&json!({"do": "revoke", "what": id_or_user})).map(drop)
    }

    /// Has access tokens from now on as Keycloak's are: `JWT` in the header, `Bearer` for the claim `typ`, the client in
    /// `azp`.
    ///
    /// # Errors
    /// If it can't.
    pub fn type_plainly(&self) -> Result<()> {
        self.tell(&json!({"do": "plain"})).map(drop)
    }

    /// Has a user log out; answers to how many clients the provider has said so, once it has.
    ///
    /// # Errors
    /// If the user was not logged in, or a client did not take it.
    pub fn logout(&self, user: &str) -> Result<u64> {
        let told = self.tell(&json!({"do": "logout", "user": user}))?;
        if told["errors"] != json!([]) {
            bail!("not every client was told: {}", told["errors"]);
        }
        told["sent"].as_u64().context("it counts what it sends")
    }

    /// Puts a user into other groups than before; tokens issued from now on say so, and so does what is said of JWTs
    /// where it keeps account of them.
    ///
    /// # Errors
    /// If there is no such user.
    pub fn set_groups(&self, user: &str, groups: &[&str]) -> Result<()> {
        self.tell(&json!({"do": "groups", "user": user, "groups": groups})).map(drop)
    }

    /// Gives a user another name; tokens issued from now on say so.
    ///
    /// # Errors
    /// If there is no such user.
    pub fn set_name(&self, user: &str, name: &str) -> Result<()> {
        self.tell(&json!({"do": "name", "user": user, "name": name})).map(drop)
    }

    /// Says where [`CLIENT`] may have browsers sent back to with a code; PKCE is demanded.
    ///
    /// # Errors
    /// If the provider does not take it.
    pub fn set_redirects(&self, uris: &[&str]) -> Result<()> {
        self.tell(&json!({"do": "redirects", "uris": uris})).map(drop)
    }

    /// Says where every client is told of logouts.
    ///
    /// # Errors
    /// If the provider does not take it.
    pub fn set_backchannel(&self, uri: &str) -> Result<()> {
        self.tell(&json!({"do": "backchannel", "uri": uri})).map(drop)
    }

    /// Says how long access tokens stand that are issued from now on.
    ///
    /// # Errors
    /// If the provider does not take it.
    pub fn set_seconds(&self, seconds: u64) -> Result<()> {
        self.tell(&json!({"do": "ttl", "what": "access", "seconds": seconds})).map(drop)
    }

    /// Says how long codes of device flows stand that are started from now on.
    ///
    /// # Errors
    /// If the provider does not take it.
    pub fn set_code_seconds(&self, seconds: u64) -> Result<()> {
        self.tell(&json!({"do": "ttl", "what": "device", "seconds": seconds})).map(drop)
    }

    /// Has it sign with new keys from now on, and keep the old ones in its key set or not.
    ///
    /// # Errors
    /// If it can't.
    pub fn rotate(&self, keep: bool) -> Result<()> {
        self.tell(&json!({"do": "rotate", "keep": keep})).map(drop)
    }

    /// Answers a token of a header and a payload that need not be sound, or even JSON. Ids of keys are the
    /// algorithm and how often keys were made: `RS256-1` first.
    ///
    /// # Errors
    /// If it can't.
    pub fn sign(&self, header: &str, payload: &str, by: SignedBy) -> Result<String> {
        let key = match by {
            SignedBy::Rs256 => "RS256",
            SignedBy::Es256 => "ES256",
            SignedBy::EdDsa => "EdDSA",
            SignedBy::PublicKeyAsSecret => "hmac",
            SignedBy::Nobody => "none",
        };
        let told =
            self.tell(&json!({"do": "sign", "header": header, "payload": payload, "key": key}))?;
        Ok(told["token"].as_str().context("it answers a token")?.to_owned())
    }

    /// Answers how often it was asked so far.
    ///
    /// # Errors
    /// If it does not say.
    pub fn asked(&self) -> Result<Asked> {
        let seen = self.tell(&json!({"do": "seen"}))?;
        let count = |name: &str| seen[name].as_u64().context("it counts");
        Ok(Asked {
            discovery: count("discovery")?,
            keys: count("jwks")?,
            introspections: count("introspections")?,
        })
    }

    /// Ends it: its port refuses connections.
    pub fn stop(&self) {
        self.process().kill();
    }

    /// Has it stand still: its port takes connections and answers nothing.
    ///
    /// # Errors
    /// If it is gone.
    pub fn freeze(&self) -> Result<()> {
        self.process().signal(Signal::STOP)
    }

    /// Has it go on.
    ///
    /// # Errors
    /// If it is gone.
    pub fn thaw(&self) -> Result<()> {
        self.process().signal(Signal::CONT)
    }

    fn tell(&self, command: &Value) -> Result<Value> {
        let mut pipes = self.pipes();
        writeln!(pipes.0, "{command}").context("oidc-provider is gone")?;
        let told = answer(&mut pipes.1)?;
        if let Some(error) = told.get("error") {
            bail!("{command}: {error}");
        }
        Ok(told)
    }

    fn pipes(&self) -> MutexGuard<'_, (ChildStdin, BufReader<ChildStdout>)> {
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn process(&self) -> MutexGuard<'_, Running> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads an answer; what else node prints stands on lines that are no JSON.
fn answer(pipe: &mut impl BufRead) -> Result<Value> {
    loop {
        let mut line = String::new();
        if pipe.read_line(&mut line).context("oidc-provider can't be heard")? == 0 {
            bail!("oidc-provider has ended");
        }
        if let Ok(told) = serde_json::from_str::<Value>(&line) {
            return Ok(told);
        }
    }
}
