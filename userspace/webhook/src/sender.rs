//! One message to one receiver: bounded in bytes and time, over TLS, following no redirection.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Certificate, Client, Response, Url, redirect};
use types::secret::Secret;

use crate::body::Shape;
use crate::notice::{Kind, Notice};
use crate::queue::Failure;
use crate::sign::{Key, KeyError};

/// How long a receiver may take to be connected to, and to answer.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(15);

/// A file of authorities' certificates: Debian's whole bundle has 220 KiB.
const CA_BYTES_MAX: u64 = 1024 * 1024;

/// Where a hook's secret is had from; may block.
pub type SecretOf = Arc<dyn Fn() -> io::Result<Secret<Vec<u8>>> + Send + Sync>;

/// A webhook as it is configured.
#[derive(Clone)]
pub struct Hook {
    /// Its name in records.
    pub name: Arc<str>,
    /// Where it is; where absent, that is the secret, as Slack's and Teams' are.
    pub url: Option<Url>,
    /// How its messages are shaped.
    pub shape: Shape,
    /// What it hears of.
    pub kinds: Vec<Kind>,
    /// What messages are signed with, or where it is.
    pub secret: Option<SecretOf>,
    /// Authorities to trust beside the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// Where people answer: a URL that a request's id is put behind.
    pub desk: Option<String>,
}

/// Why a hook can't be used.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It is no URL that messages may go to.
    #[error("a webhook is https://…, or http:// on this host")]
    Url,
    /// There is neither a URL nor a secret.
    #[error("a url, or a secret that is one")]
    Nowhere,
    /// The file of authorities can't be read or holds none.
    #[error("ca_file: no certificates can be read")]
    CaFile,
    /// TLS can't be set up.
    #[error("TLS can't be set up: nobody to trust")]
    Tls,
    /// The secret is not to be had.
    #[error("the secret can't be read")]
    Secret(#[source] io::Error),
    /// The secret is no key.
    #[error("the secret is no key")]
    Key(#[from] KeyError),
    /// The record of which hooks there are can't be written.
    #[error("it can't be recorded")]
    Record(#[from] journal::recorder::AppendError),
}

/// A URL that messages may go to.
///
/// # Errors
/// If it is none, or what is sent could be read on its way.
pub fn url(text: &str) -> Result<Url, HookError> {
    let url: Url = text.trim().parse().map_err(|_| HookError::Url)?;
    let is_local = match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        None => false,
    };
    let is_right = url.scheme() == "https" || (url.scheme() == "http" && is_local);
    let has_host = url.host_str().is_some_and(|host| !host.is_empty());
    if is_right && has_host { Ok(url) } else { Err(HookError::Url) }
}

/// What a message is sent with.
struct Means {
    url: Url,
    key: Option<Key>,
}

impl Hook {
    /// Checks what can be checked without the secret.
    ///
    /// # Errors
    /// If it says neither where it is nor what is secret.
    pub fn check(&self) -> Result<(), HookError> {
        if self.url.is_none() && self.secret.is_none() {
            return Err(HookError::Nowhere);
        }
        Ok(())
    }

    /// Whether its secret is there and is what it must be; may block.
    ///
    /// # Errors
    /// If not.
    pub fn check_secret(&self) -> Result<(), HookError> {
        self.means().map(drop)
    }

    fn means(&self) -> Result<Means, HookError> {
        let secret = self.secret.as_ref().map(|secret| secret().map_err(HookError::Secret));
        match (&self.url, secret.transpose()?) {
            (Some(url), secret) => {
                let key = secret.as_ref().map(Key::parse).transpose()?;
                Ok(Means { url: url.clone(), key })
            }
            (None, Some(secret)) => {
                let text = std::str::from_utf8(secret.expose()).map_err(|_| HookError::Url)?;
                Ok(Means { url: url(text)?, key: None })
            }
            (None, None) => Err(HookError::Nowhere),
        }
    }
}

/// A hook and its client.
pub(crate) struct Sender {
    hook: Hook,
    client: Client,
}

impl Sender {
    /// A client that trusts the system's authorities, and the hook's.
    pub(crate) fn new(hook: Hook) -> Result<Self, HookError> {
        hook.check()?;
        let mut builder = Client::builder()
            .connect_timeout(CONNECT_PATIENCE)
            .timeout(PATIENCE)
            .redirect(redirect::Policy::none())
            .referer(false)
            // The environment of a daemon is no place to say where messages go.
            .no_proxy()
            .pool_max_idle_per_host(1)
            .user_agent("vestibule");
        if let Some(path) = &hook.ca_file {
            builder = builder.tls_certs_merge(certificates(path).ok_or(HookError::CaFile)?);
        }
        let client = builder.build().map_err(|_| HookError::Tls)?;
        Ok(Self { hook, client })
    }

    pub(crate) fn hook(&self) -> &Hook {
        &self.hook
    }

    /// Sends a message at `now_us`; the status that it was taken with. Errors name no URL, which may be a secret.
    pub(crate) async fn send(&self, notice: &Notice, now_us: i64) -> Result<u16, Failure> {
        let hook = self.hook.clone();
        let means = tokio::task::spawn_blocking(move || hook.means()).await;
        let Ok(Ok(Means { url, key })) = means else {
            let why = means.map_or("the secret can't be read".to_owned(), |means| {
                means.err().map_or_else(String::new, |error| error.to_string())
            });
            return Err(Failure { why, is_receivers: true, is_final: false, asked_us: None });
        };
        let desk = self.hook.desk.as_deref();
        let link = desk.map(|desk| format!("{}{}", desk, notice.request));
        let body = self.hook.shape.body(notice, link.as_deref());
        let timestamp_s = now_us / 1_000_000;
        let mut request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &*notice.id)
            .header("webhook-timestamp", timestamp_s.to_string());
        if let Some(key) = key {
            request =
                request.header("webhook-signature", key.signature(&notice.id, timestamp_s, &body));
        }
        // What it says besides is not read.
        match request.body(body).send().await {
            Ok(response) => judged(&response),
            Err(error) => {
                let why = if error.is_timeout() {
                    "no answer in time"
                } else if error.is_connect() {
                    "no connection, or none that is trusted"
                } else {
                    "no answer"
                };
                let why = why.to_owned();
                Err(Failure { why, is_receivers: true, is_final: false, asked_us: None })
            }
        }
    }
}

/// 2xx has it; 410 wants no more of it; 429 and 5xx mean the receiver, everything else this message.
fn judged(response: &Response) -> Result<u16, Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(status.as_u16());
    }
    let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let asked_s = asked.and_then(|text| text.trim().parse::<u32>().ok());
    Err(Failure {
        why: format!("status {}", status.as_u16()),
        is_receivers: status.is_server_error() || status.as_u16() == 429,
        is_final: status.as_u16() == 410,
        asked_us: asked_s.map(|seconds| i64::from(seconds) * 1_000_000),
    })
}

fn certificates(path: &Path) -> Option<Vec<Certificate>> {
    let bytes = fs::metadata(path).ok()?.len();
    if bytes > CA_BYTES_MAX {
        return None;
    }
    let found = Certificate::from_pem_bundle(&fs::read(path).ok()?).ok()?;
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_nowhere_where_they_could_be_read() {
        for (text, is_right) in [
            ("https://hooks.example/x\n", true),
            ("http://127.0.0.1:8080/", true),
            ("http://[::1]:8080/", true),
            ("http://localhost/x", true),
            ("http://hooks.example/x", false),
            ("http://127.0.0.1.evil.example/", false),
            ("ftp://127.0.0.1/", false),
            ("https://", false),
            ("hooks.example", false),
        ] {
            assert_eq!(url(text).is_ok(), is_right, "{text}");
        }
    }
}
