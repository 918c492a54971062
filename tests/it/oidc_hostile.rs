//! Issuers that lie, flood, stall or send elsewhere; and TLS to those that do not.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use identity::oidc::client_credentials::Target;
use identity::oidc::device::Poll;
use identity::oidc::provider::Standing;
use identity::oidc::{Issuer, Kind, Provider, TokenError};
use integration::Idp;
use integration::certificates::Certificates;
use integration::idp::{CLIENT, RESOURCES};
use integration::port::Port;
use types::secret::Secret;

use crate::oidc::{client, now};

/// A server that answers by a function of its own.
struct Liar {
    port: Port,
    asked: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

type Answer = dyn Fn(&str, &str) -> Vec<u8> + Send + Sync;

impl Liar {
    /// Starts one; it is asked by its own URL and a path.
    fn start(answer: impl Fn(&str, &str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let port = Port::take().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", port.number())).unwrap();
        let (asked, ends) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let url = format!("http://127.0.0.1:{}", port.number());
        let (count, is_over) = (Arc::clone(&asked), Arc::clone(&ends));
        let server = thread::spawn(move || {
            for connection in listener.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                // One that hangs up early is no failure.
                serve(connection.unwrap(), &url, &answer).ok();
            }
        });
        Self { port, asked, ends, server: Some(server) }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    fn provider(&self) -> Provider {
        provider(&self.url(), |_| ())
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        TcpStream::connect(("127.0.0.1", self.port.number())).ok();
        self.server.take().map(JoinHandle::join);
    }
}

fn serve(mut connection: TcpStream, url: &str, answer: &Answer) -> std::io::Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|four| four == b"\r\n\r\n") {
        let mut chunk = [0; 4096];
        let count = connection.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        bytes.extend_from_slice(&chunk[..count]);
    }
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    // In pieces, so that one who reads without a bound is seen to.
    for piece in answer(url, path).chunks(16 * 1024) {
        connection.write_all(piece)?;
        if piece == STALL {
            thread::sleep(Duration::from_secs(4));
        }
    }
    Ok(())
}

const STALL: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{";

fn say(status: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn metadata(url: &str) -> Vec<u8> {
    let body = format!(
        r#"{{"issuer":"{url}","jwks_uri":"{url}/keys","token_endpoint":"{url}/token",
        "device_authorization_endpoint":"{url}/device"}}"#
    );
    say("200 OK", &body)
}

fn provider(url: &str, adjust: impl FnOnce(&mut Issuer)) -> Provider {
    let mut issuer = Issuer::new(url, vec![CLIENT.to_owned()]);
    issuer.timeouts.request = Duration::from_secs(2);
    adjust(&mut issuer);
    Provider::new(issuer).unwrap()
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// How keys stand after having been asked for once.
fn standing(provider: &Provider) -> Standing {
    wait(async {
        provider.metadata(now(0)).await.ok();
        provider.standing(now(0)).await
    })
}

#[track_caller]
fn check(keys: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static, expected: Option<TokenError>) {
    let liar =
        Liar::start(move |url, path| if path == "/keys" { keys(url) } else { metadata(url) });
    assert_eq!(standing(&liar.provider()).failed, expected);
}

#[test]
fn what_an_issuer_says_is_bounded_and_its_own() {
    let unsound = Some(TokenError::IssuerUnsound);
    let unreachable = Some(TokenError::IssuerUnreachable);
    check(|_| say("200 OK", r#"{"keys":[]}"#), None);
    check(|_| say("200 OK", &format!(r#"{{"keys":[],"x":"{}"}}"#, "a".repeat(200 << 10))), None);
    check(|_| say("200 OK", &format!(r#"{{"keys":[],"x":"{}"}}"#, "a".repeat(256 << 10))), unsound);
    // Without a length, without an end.
    let endless = |_: &str| [b"HTTP/1.1 200 OK\r\n\r\n{".to_vec(), vec![b' '; 32 << 20]].concat();
    check(endless, unsound);
    check(|_| say("200 OK", &format!(r#"{{"keys":[{}]}}"#, vec!["{}"; 65].join(","))), unsound);
    check(|_| say("200 OK", r#"{"keys":[],"keys":[]}"#), unsound);
    check(|_| say("200 OK", "<html>"), unsound);
    check(|_| say("500 Internal Server Error", ""), unreachable);
    check(|_| b"SSH-2.0-x\r\n".to_vec(), unreachable);
    check(|_| STALL.to_vec(), unreachable);
    // Nobody is followed elsewhere.
    let elsewhere = |url: &str| {
        let to = format!("302 Found\r\nlocation: {url}/other");
        say(&to, "")
    };
    check(elsewhere, unreachable);
}

#[test]
fn another_issuers_metadata_is_not_believed() {
    let liar = Liar::start(|url, _| metadata(&url.replace("127.0.0.1", "127.0.0.2")));
    assert_eq!(standing(&liar.provider()).failed, Some(TokenError::IssuerUnsound));
    assert_eq!(liar.asked.load(Ordering::SeqCst), 1, "its keys are not even fetched");
    let liar = Liar::start(|url, _| {
        say("200 OK", &format!(r#"{{"issuer":"{url}","jwks_uri":"http://192.0.2.1/keys"}}"#))
    });
    assert_eq!(standing(&liar.provider()).failed, Some(TokenError::IssuerUnsound));
    let liar =
        Liar::start(|_, _| say("200 OK", &format!("{{\"x\":\"{}\"}}", "a".repeat(64 << 10))));
    assert_eq!(standing(&liar.provider()).failed, Some(TokenError::IssuerUnsound));
}

#[test]
fn answers_to_a_login_are_judged() {
    let login = |device: &'static str, token: &'static str| {
        let liar = Liar::start(move |url, path| match path {
            "/keys" => say("200 OK", r#"{"keys":[]}"#),
            "/device" => say("200 OK", &device.replace("URL", url)),
            "/token" => say("400 Bad Request", token),
            _ => metadata(url),
        });
        let provider = liar.provider();
        wait(async {
            let started = provider.login(&client(), Target::default(), now(0)).await;
            let mut login = started.map_err(|error| error.reason().to_owned())?;
            let polled = provider.poll(&client(), &mut login, now(0)).await;
            let polled = polled.map_err(|error| error.reason().to_owned())?;
            Ok::<_, String>((polled, login.interval.as_secs()))
        })
    };
    let sound = r#"{"device_code":"d","user_code":"U-1","verification_uri":"URL/d","expires_in":60,"interval":1}"#;
    let (polled, interval) = login(sound, r#"{"error":"slow_down"}"#).unwrap();
    assert!(matches!(polled, Poll::Pending) && interval == 6);
    let (polled, _) = login(sound, r#"{"error":"expired_token"}"#).unwrap();
    assert!(matches!(polled, Poll::Expired));
    assert_eq!(login(sound, r#"{"error":"<b>anything"}"#).unwrap_err(), "refused");
    for device in [
        r#"{"device_code":"d","user_code":"U","verification_uri":"javascript:x","expires_in":60}"#,
        r#"{"device_code":"d","user_code":"U","verification_uri":"http://evil.example","expires_in":60}"#,
        r#"{"device_code":"d","user_code":"U\u001b[2J","verification_uri":"URL/d","expires_in":60}"#,
        r#"{"device_code":"d","verification_uri":"URL/d","expires_in":60}"#,
        r#"{"device_code":"d","user_code":"U","verification_uri":"URL/d"}"#,
    ] {
        assert_eq!(login(device, "").unwrap_err(), "answer_malformed", "{device}");
    }
}

#[test]
fn an_issuer_is_known_by_its_certificate() {
    let certificates = Certificates::make("IP:127.0.0.1").unwrap();
    let idp = Idp::start_tls(&certificates).unwrap();
    let stranger = provider(&idp.issuer(), |_| ());
    assert_eq!(standing(&stranger).failed, Some(TokenError::IssuerUnreachable));
    let provider = provider(&idp.issuer(), |issuer| {
        issuer.ca_file = Some(certificates.path("bank.crt"));
        issuer.audiences = vec![RESOURCES[0].to_owned()];
    });
    let target = Target { scope: "bank", resource: Some(RESOURCES[0]) };
    let verified = wait(async {
        let tokens = provider.client_credentials(&client(), target, now(0)).await.unwrap();
        provider.verify(&tokens.access, Kind::AccessToken, now(0)).await.unwrap()
    });
    assert_eq!(&*verified.issuer, idp.issuer());
    // A certificate of the same authority for somebody else.
    let other = Certificates::make("IP:127.0.0.2").unwrap();
    let idp = Idp::start_tls(&other).unwrap();
    let provider = self::provider(&idp.issuer(), |issuer| {
        issuer.ca_file = Some(other.path("bank.crt"));
    });
    assert_eq!(standing(&provider).failed, Some(TokenError::IssuerUnreachable));
    let mut issuer = Issuer::new("https://id.bank.example", vec!["us".to_owned()]);
    issuer.ca_file = Some(other.path("server.key"));
    assert!(Provider::new(issuer).is_err(), "a key is no authority");
    let empty = Secret::new(String::new());
    let refused = wait(provider.verify(&empty, Kind::IdToken, now(0)));
    assert_eq!(refused, Err(TokenError::Malformed));
}
