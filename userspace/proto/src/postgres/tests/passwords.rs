//! Passwords that the driver sees first: the agent is asked before anything goes up, and what it would send to the
//! server waits.

use super::super::{Credential, Injection, Methods, Nonce, Password, ScramKeys};
use super::*;

const TOKEN: &str = "eyJ0b2tlbg.e30.c2ln";

/// What the driver does with a password.
#[derive(Clone, Copy)]
enum Driver {
    Opens,
    Passes,
    Refuses,
}

/// A session whose driver sees passwords, fed in pieces of so many bytes.
struct Play {
    session: PostgresSession,
    seen: Transcript,
    driver: Driver,
    piece: usize,
    asks: bool,
    given: Vec<Option<Vec<u8>>>,
}

impl Play {
    fn new(driver: Driver, asks: bool, piece: usize) -> Self {
        let mut session = PostgresSession::new(Arc::clone(&ANALYZER), Transport::default());
        if asks {
            session.hold_opening();
        }
        session.hold_passwords();
        let (seen, given) = (Transcript::default(), Vec::new());
        Self { session, seen, driver, piece, asks, given }
    }

    fn inject(&mut self) {
        let credential = Credential {
            name: "bank-app".into(),
            account: "app".into(),
            secret: Secret::new(b"the-real-secret".to_vec()),
            methods: Methods { cleartext_without_tls: true, ..Methods::default() },
            placeholder: None,
        };
        let (upstream, downstream) = (Nonce([1; 18]), Nonce([2; 18]));
        self.session.inject(Injection { credential: credential.into(), upstream, downstream });
    }

    /// Feeds a side; answers what each was sent: down, up.
    fn say(&mut self, side: Side, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (down, up) = (self.seen.down.len(), self.seen.up.len());
        for piece in bytes.chunks(self.piece) {
            if self.session.is_ended() {
                break;
            }
            self.session.handle_input(side, piece, Timestamp::default());
            self.drive();
        }
        drain(&mut self.session, &mut self.seen);
        (self.seen.down[down..].to_vec(), self.seen.up[up..].to_vec())
    }

    fn drive(&mut self) {
        settle(&mut self.session, &mut self.seen);
        if self.session.is_met() {
            if self.asks {
                self.session.ask_password();
            } else {
                self.session.open();
            }
        }
        match self.session.password() {
            None => {}
            Some(Password::Asked(given)) => {
                self.given.push(given.map(|given| given.expose().clone()));
                self.inject();
                self.session.open();
            }
            Some(Password::Relayed(given)) => {
                self.given.push(Some(given.expose().clone()));
                match self.driver {
                    Driver::Opens | Driver::Passes => self.session.pass_password(),
                    Driver::Refuses => self.session.refuse_token("told", "a token for a password"),
                }
            }
        }
        settle(&mut self.session, &mut self.seen);
        if let Some(wanted) = self.session.keys_wanted() {
            self.session.set_keys(&ScramKeys::derive(&Secret::new(Vec::new()), &wanted));
        }
    }
}

fn login() -> Vec<u8> {
    startup(&[("user", "bob"), ("database", "bank")])
}

fn password(text: &str) -> Vec<u8> {
    message(b'p', format!("{text}\0").as_bytes())
}

fn request(code: u32) -> Vec<u8> {
    message(b'R', &code.to_be_bytes())
}

#[test]
fn the_agent_is_asked_before_anything_goes_up() {
    for piece in [1, 7, 4096] {
        let mut play = Play::new(Driver::Opens, true, piece);
        let (down, up) = play.say(Side::Downstream, &login());
        assert_eq!((down, up), (request(3), Vec::new()));
        assert!(play.session.awaits_password() && play.seen.commands().is_empty());
        let (down, up) = play.say(Side::Downstream, &password(TOKEN));
        assert_eq!(up, startup(&[("user", "app"), ("database", "bank")]));
        assert_eq!((down, &play.given), (Vec::new(), &vec![Some(TOKEN.into())]));
        assert_eq!(play.seen.commands().len(), 1);
        let (_, up) = play.say(Side::Upstream, &request(3));
        assert_eq!(up, password("the-real-secret"));
        let (down, _) = play.say(Side::Upstream, &[request(0), ready(b'I')].concat());
        assert!(down.starts_with(&request(0)));
        assert_eq!(play.seen.statuses(), [Status::Ok]);
        let all = [&play.seen.up[..], &play.seen.down].concat();
        assert!(memchr::memmem::find(&all, TOKEN.as_bytes()).is_none());
        assert!(!format!("{:?}", play.seen.events).contains(TOKEN));
    }
}

#[test]
fn a_refused_opening_sends_nothing_up() {
    let mut play = Play::new(Driver::Opens, true, 5);
    play.say(Side::Downstream, &startup(&[("user", "bob"), ("database", "denied")]));
    play.session.set_cancel_key(Secret::new([7; 32]));
    // The exchange's `settle` lets it in; here it is refused.
    play.session.handle_input(Side::Downstream, &password("x"), Timestamp::default());
    assert!(matches!(play.session.password(), Some(Password::Asked(Some(_)))));
    play.session.open();
    let Some(Event::Command(command)) = play.session.poll_event() else { panic!("no command") };
    let mut refusal = Refusal::new("password-token".into(), "expired".into());
    refusal.code = *b"28P01";
    play.session.handle_decision(command.id, Verdict::Deny(refusal));
    settle(&mut play.session, &mut play.seen);
    drain(&mut play.session, &mut play.seen);
    let told = String::from_utf8_lossy(&play.seen.down).into_owned();
    assert!(told.contains("SFATAL\0VFATAL\0C28P01\0Mexpired"), "{told}");
    assert!(play.session.is_ended() && play.seen.up.is_empty());
    assert_eq!(play.seen.statuses(), [Status::Denied]);
}

#[test]
fn an_answer_that_is_too_long_is_not_read() {
    let long = "a".repeat(1 << 20);
    let mut play = Play::new(Driver::Opens, true, 4096);
    play.say(Side::Downstream, &login());
    let head = &password(&long)[..100_000];
    let (_, up) = play.say(Side::Downstream, head);
    assert_eq!(play.given, [None]);
    assert!(!up.windows(10).any(|ten| ten == b"aaaaaaaaaa"));
}

#[test]
fn nothing_else_answers_the_question() {
    for bytes in [query("SELECT 1"), message(b'd', b"x"), message(b'p', b"no end"), sync()] {
        let mut play = Play::new(Driver::Opens, true, 4096);
        play.say(Side::Downstream, &login());
        play.say(Side::Downstream, &bytes);
        assert!(play.seen.violation().is_some() && play.session.is_ended(), "{bytes:?}");
        assert!(play.seen.up.is_empty() && play.seen.commands().is_empty());
    }
    // Leaving is none of that; nor does the server say anything yet.
    let mut play = Play::new(Driver::Opens, true, 4096);
    play.say(Side::Downstream, &login());
    play.say(Side::Downstream, &message(b'X', b""));
    assert!(play.seen.violation().is_none() && play.session.is_ended());
    let mut play = Play::new(Driver::Opens, true, 4096);
    play.say(Side::Downstream, &login());
    play.say(Side::Upstream, &request(0));
    assert!(play.seen.violation().is_some());
}

#[test]
fn what_the_server_would_be_told_waits_for_the_driver() {
    for piece in [1, 4096] {
        let mut play = Play::new(Driver::Passes, false, piece);
        assert_eq!(play.say(Side::Downstream, &login()).1, login());
        play.say(Side::Upstream, &request(3));
        assert_eq!(play.say(Side::Downstream, &password(TOKEN)).1, password(TOKEN));
        assert_eq!(play.given, [Some(TOKEN.into())]);
        play.say(Side::Upstream, &[request(0), ready(b'I')].concat());
        assert_eq!(play.seen.statuses(), [Status::Ok]);

        let mut play = Play::new(Driver::Refuses, false, piece);
        play.say(Side::Downstream, &login());
        play.say(Side::Upstream, &request(3));
        let (down, up) = play.say(Side::Downstream, &password(TOKEN));
        assert!(up.is_empty() && play.session.is_ended());
        assert!(String::from_utf8_lossy(&down).contains("C28P01\0Mtold"));
        assert_eq!(play.seen.violation(), Some("a token for a password"));
        assert_eq!(play.seen.statuses(), [Status::Error]);
    }
}

#[test]
fn an_answer_before_the_question_waits_and_one_to_another_is_none_of_it() {
    let mut play = Play::new(Driver::Refuses, false, 4096);
    let (_, up) = play.say(Side::Downstream, &[login(), password(TOKEN)].concat());
    assert_eq!(up, login());
    play.say(Side::Upstream, &request(3));
    assert!(play.session.is_ended() && play.given == [Some(TOKEN.into())]);

    let mut play = Play::new(Driver::Refuses, false, 4096);
    play.say(Side::Downstream, &login());
    play.say(Side::Upstream, &message(b'R', &[0, 0, 0, 5, 1, 2, 3, 4]));
    let (_, up) = play.say(Side::Downstream, &password("md5x"));
    assert_eq!((up, play.given.len()), (password("md5x"), 0));
    // SASL goes on for several answers.
    let mut play = Play::new(Driver::Refuses, false, 4096);
    play.say(Side::Downstream, &login());
    for code in [10, 11] {
        play.say(Side::Upstream, &request(code));
        assert_eq!(play.say(Side::Downstream, &message(b'p', b"x")).1, message(b'p', b"x"));
    }
    play.say(Side::Upstream, &[request(12), request(0), ready(b'I')].concat());
    assert_eq!(play.seen.statuses(), [Status::Ok]);
}
