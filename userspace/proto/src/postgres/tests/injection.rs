//! Logins with a credential: what the agent, the server and the record get to see.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::super::scram::{Binding, Client, Server};
use super::super::{Credential, Injection, Leg, Methods, Nonce, ScramKeys, Verifier};
use super::*;

const SECRET: &str = "the-real-secret";
const PLACEHOLDER: &str = "what-the-agent-has";

fn secret(text: &str) -> Secret<Vec<u8>> {
    Secret::new(text.as_bytes().to_vec())
}

fn tls(end_point: &[u8]) -> Leg {
    Leg::Tls { end_point: Some(end_point.into()) }
}

/// A session with a credential, its two ends played by the test, every byte fed alone.
struct Play {
    session: PostgresSession,
    seen: Transcript,
}

impl Play {
    fn new(transport: Transport, methods: Methods, placeholder: Option<&str>) -> Self {
        let mut session = PostgresSession::new(Arc::clone(&ANALYZER), transport);
        session.inject(Injection {
            credential: Arc::new(Credential {
                name: "bank-app".into(),
                account: "app".into(),
                secret: secret(SECRET),
                methods,
                placeholder: placeholder.map(|text| Verifier::new(&secret(text), [3; 16])),
            }),
            upstream: Nonce([1; 18]),
            downstream: Nonce([2; 18]),
        });
        let mut own = Self { session, seen: Transcript::default() };
        own.say(Side::Downstream, &startup(&[("user", "bob"), ("database", "bank")]));
        own
    }

    /// Feeds a side; answers what each side was sent: down, up.
    fn say(&mut self, side: Side, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (down, up) = (self.seen.down.len(), self.seen.up.len());
        for byte in bytes {
            self.session.handle_input(side, std::slice::from_ref(byte), Timestamp::default());
            settle(&mut self.session, &mut self.seen);
            if let Some(wanted) = self.session.keys_wanted() {
                self.session.set_keys(&ScramKeys::derive(&secret(SECRET), &wanted));
            }
        }
        drain(&mut self.session, &mut self.seen);
        (self.seen.down[down..].to_vec(), self.seen.up[up..].to_vec())
    }

    fn ask(&mut self, code: u32, body: &[u8]) -> (Vec<u8>, Vec<u8>) {
        self.say(Side::Upstream, &request(code, body))
    }

    /// Plays the server's end of SCRAM with `password`; answers what the agent saw of it.
    fn scram(&mut self, server: &mut Server, password_known: bool) -> Vec<u8> {
        let names = server.mechanisms().join("\0") + "\0\0";
        let (mut down, up) = self.ask(10, names.as_bytes());
        let Some(body) = up.get(5..) else { return down };
        let split = body.iter().position(|byte| *byte == 0).unwrap();
        let first = server.client_first(&body[..split], &body[split + 5..]).unwrap();
        let (more, up) = self.ask(11, first.as_bytes());
        down.extend(more);
        let last = server.client_final(&up[5..]);
        assert_eq!(last.is_ok(), password_known, "{last:?}");
        let last = last.unwrap_or_else(|_| "e=invalid-proof".into());
        down.extend(self.ask(12, last.as_bytes()).0);
        down
    }

    fn nothing_leaks(&self) {
        let said = format!("{:?}{:?}", self.seen.events, self.session.startup());
        assert!(!said.contains(SECRET) && !said.contains(PLACEHOLDER), "{said}");
        assert!(memchr::memmem::find(&self.seen.down, SECRET.as_bytes()).is_none());
    }
}

fn request(code: u32, body: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes(), body].concat())
}

fn target(password: &str, end_point: Option<&[u8]>) -> Server {
    let verifier = Verifier::new(&secret(password), [9; 16]);
    Server::new(verifier, end_point.map(Into::into), &Nonce([4; 18]))
}

#[test]
fn the_startup_goes_up_for_the_account() {
    let play = Play::new(Transport::default(), Methods::default(), None);
    assert_eq!(play.seen.up, startup(&[("user", "app"), ("database", "bank")]));
    assert_eq!(play.session.startup().unwrap().user, "bob");
}

#[test]
fn scram_is_answered_in_the_agents_place() {
    for (upstream, end_point) in
        [(Leg::Plain, None), (tls(b"cert"), Some(b"cert".as_slice())), (tls(b"cert"), None)]
    {
        let transport = Transport { downstream: Leg::Plain, upstream };
        let mut play = Play::new(transport, Methods::default(), None);
        let down = play.scram(&mut target(SECRET, end_point), true);
        assert_eq!(down, b"", "the agent sees nothing of it");
        let (down, _) = play.ask(0, b"");
        assert_eq!(down, request(0, b""));
        play.say(Side::Upstream, &ready(b'I'));
        assert_eq!(play.seen.statuses(), [Status::Ok]);
        play.nothing_leaks();
    }
}

#[test]
fn what_a_target_may_not_do() {
    let weak = Methods { cleartext: true, ..Methods::default() };
    let cases: [(Leg, Methods, Vec<Vec<u8>>, &str); 12] = [
        (Leg::Plain, Methods::default(), vec![request(0, b"")], "no authentication"),
        (Leg::Plain, Methods::default(), vec![request(3, b"")], "does not allow"),
        (Leg::Plain, weak, vec![request(3, b"")], "does not allow"),
        (Leg::Plain, weak, vec![request(5, b"salt")], "does not allow"),
        (Leg::Plain, weak, vec![request(7, b"")], "not known"),
        (Leg::Plain, weak, vec![request(10, b"OAUTHBEARER\0\0")], "no SASL mechanism"),
        (Leg::Plain, weak, vec![request(10, b"SCRAM-SHA-256-PLUS\0\0")], "outside of TLS"),
        (Leg::Plain, weak, vec![request(11, b"r=x,s=AAAA,i=4096")], "not due"),
        (Leg::Plain, weak, vec![request(12, b"v=AAAA")], "not due"),
        // Once it is SCRAM, it stays so.
        (tls(b"c"), weak, vec![request(10, b"SCRAM-SHA-256\0\0"), request(3, b"")], "not due"),
        (Leg::Plain, weak, vec![request(10, b"SCRAM-SHA-256\0\0"), request(0, b"")], "not due"),
        (
            Leg::Plain,
            weak,
            vec![request(10, b"SCRAM-SHA-256\0\0"), request(11, b"r=x,s=AAAA,i=4096")],
            "nonce",
        ),
    ];
    for (upstream, methods, said, what) in cases {
        let transport = Transport { downstream: Leg::Plain, upstream };
        let mut play = Play::new(transport, methods, None);
        for one in &said {
            play.say(Side::Upstream, one);
        }
        assert!(
            play.seen.violation().is_some_and(|v| v.contains(what)),
            "{said:?}: {:?}",
            play.seen
        );
        assert_eq!(play.seen.statuses(), [Status::Error]);
        assert_eq!(play.seen.outcomes()[0].error_code, Some(*b"28000"));
        let down = String::from_utf8_lossy(&play.seen.down).into_owned();
        assert!(down.contains("C28000\0Mvestibule could not authenticate"), "{down}");
        assert!(play.session.is_ended());
        assert!(memchr::memmem::find(&play.seen.up, SECRET.as_bytes()).is_none());
        play.nothing_leaks();
    }
}

#[test]
fn a_false_server_is_found() {
    let mut play = Play::new(Transport::default(), Methods::default(), None);
    let mut server = target(SECRET, None);
    let (_, up) = play.ask(10, b"SCRAM-SHA-256\0\0");
    let split = 5 + up[5..].iter().position(|byte| *byte == 0).unwrap();
    let first = server.client_first(b"SCRAM-SHA-256", &up[split + 5..]).unwrap();
    play.ask(11, first.as_bytes());
    play.ask(12, format!("v={}", BASE64.encode([0; 32])).as_bytes());
    assert!(play.seen.violation().is_some_and(|what| what.contains("false server")));
    assert!(play.session.is_ended());
}

#[test]
fn a_refused_credential_is_told_in_our_words() {
    let mut play = Play::new(Transport::default(), Methods::default(), None);
    let text = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"app\"\0\0";
    let (down, _) = play.say(Side::Upstream, &message(b'E', text));
    let down = String::from_utf8_lossy(&down).into_owned();
    assert!(down.contains("could not authenticate") && !down.contains("app"), "{down}");
    assert_eq!(play.seen.outcomes()[0].error_code, Some(*b"28P01"));
    assert_eq!(play.seen.violation(), Some("the target refused the credential"));
    // What is no matter of authentication is the agent's to know.
    let mut play = Play::new(Transport::default(), Methods::default(), None);
    let text = b"SFATAL\0VFATAL\0C3D000\0Mdatabase \"bank\" does not exist\0\0";
    assert_eq!(play.say(Side::Upstream, &message(b'E', text)).0, message(b'E', text));
}

#[test]
fn weaker_methods_only_where_the_credential_says_so() {
    let md5 = Methods { md5: true, ..Methods::default() };
    let mut play = Play::new(Transport::default(), md5, None);
    let (_, up) = play.ask(5, &[1, 2, 3, 4]);
    // md5 || md5hex(md5hex(secret || account) || salt), as md5sum computes it.
    assert_eq!(up, message(b'p', b"md552323b344da8113aa9aa61d4658213cf\0"));
    assert_eq!(play.ask(0, b"").0, request(0, b""));

    let cleartext = Methods { cleartext: true, ..Methods::default() };
    let transport = Transport { downstream: Leg::Plain, upstream: tls(b"c") };
    let mut play = Play::new(transport, cleartext, None);
    assert_eq!(play.ask(3, b"").1, message(b'p', format!("{SECRET}\0").as_bytes()));
    play.nothing_leaks();

    let none = Methods { none: true, ..Methods::default() };
    let mut play = Play::new(Transport::default(), none, None);
    assert_eq!(play.ask(0, b"").0, request(0, b""));
}

#[test]
fn the_agent_proves_the_placeholder_first() {
    for (leg, binding, password, good) in [
        (Leg::Plain, Binding::Unsupported, PLACEHOLDER, true),
        (Leg::Plain, Binding::NotOffered, PLACEHOLDER, true),
        (tls(b"leaf"), Binding::EndPoint((*b"leaf").into()), PLACEHOLDER, true),
        (tls(b"leaf"), Binding::Unsupported, PLACEHOLDER, true),
        (Leg::Plain, Binding::Unsupported, SECRET, false),
        (tls(b"leaf"), Binding::NotOffered, PLACEHOLDER, false),
        (tls(b"leaf"), Binding::EndPoint((*b"other").into()), PLACEHOLDER, false),
    ] {
        let transport = Transport { downstream: leg, upstream: Leg::Plain };
        let mut play = Play::new(transport, Methods::default(), Some(PLACEHOLDER));
        let offers_plus = memchr::memmem::find(&play.seen.down, b"-PLUS\0").is_some();
        assert_eq!(offers_plus, play.session.transport.downstream.is_tls());
        let name = match binding {
            Binding::EndPoint(_) => b"SCRAM-SHA-256-PLUS".as_slice(),
            _ => b"SCRAM-SHA-256",
        };
        let mut client = Client::new(binding, &Nonce([5; 18]));
        let first = client.first();
        let length = u32::try_from(first.len()).unwrap().to_be_bytes();
        let first = [name, &[0], &length, first.as_bytes()].concat();
        let (down, _) = play.say(Side::Downstream, &message(b'p', &first));
        if !play.session.is_ended() {
            let wanted = client.server_first(&down[9..]).unwrap();
            let keys = ScramKeys::derive(&secret(password), &wanted);
            let last = client.last(&keys).unwrap();
            assert_eq!(play.seen.up, b"", "nothing goes up before the proof");
            let (down, up) = play.say(Side::Downstream, &message(b'p', last.as_bytes()));
            if good {
                client.server_final(&down[9..]).unwrap();
                assert_eq!(up, startup(&[("user", "app"), ("database", "bank")]));
                play.scram(&mut target(SECRET, None), true);
                assert_eq!(play.ask(0, b"").0, request(0, b""));
                play.say(Side::Upstream, &ready(b'I'));
                assert_eq!(play.seen.statuses(), [Status::Ok]);
                continue;
            }
        }
        assert!(!good);
        assert_eq!(play.seen.up, b"");
        assert_eq!(play.seen.statuses(), [Status::Error]);
        assert_eq!(play.seen.outcomes()[0].error_code, Some(*b"28P01"));
        assert!(play.session.is_ended() && play.seen.violation().is_some());
        play.nothing_leaks();
    }
}

#[test]
fn nothing_else_comes_before_the_proof_and_no_password_without_a_request() {
    for bytes in [query("SELECT 1"), message(b'd', b"x"), message(b'p', b"hunter2\0"), sync()] {
        let mut play = Play::new(Transport::default(), Methods::default(), Some(PLACEHOLDER));
        play.say(Side::Downstream, &bytes);
        assert!(play.seen.violation().is_some() && play.seen.up.is_empty(), "{bytes:?}");
    }
    let mut play = Play::new(Transport::default(), Methods::default(), None);
    let (_, up) = play.say(Side::Downstream, &message(b'p', b"hunter2\0"));
    assert!(play.seen.violation().is_some() && up.is_empty());
}

#[test]
fn a_binding_exchange_is_not_relayed_between_two_channels() {
    let both = request(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
    let plain = request(10, b"SCRAM-SHA-256\0\0");
    let relayed = |downstream: Leg, upstream: Leg| {
        let transport = Transport { downstream, upstream };
        let mut session = PostgresSession::new(Arc::clone(&ANALYZER), transport);
        let mut seen = Transcript::default();
        for (side, bytes) in [agent(&[startup(&[("user", "bob")])]), (Side::Upstream, both.clone())]
        {
            session.handle_input(side, &bytes, Timestamp::default());
            settle(&mut session, &mut seen);
        }
        drain(&mut session, &mut seen);
        seen
    };
    assert_eq!(relayed(Leg::Plain, tls(b"c")).down, plain);
    assert_eq!(relayed(Leg::Plain, Leg::Plain).down, both);
    let refused = relayed(tls(b"l"), tls(b"c"));
    let down = String::from_utf8_lossy(&refused.down).into_owned();
    assert!(down.contains("SFATAL") && down.contains("a credential must be configured"), "{down}");
    assert!(refused.violation().is_some());
}
