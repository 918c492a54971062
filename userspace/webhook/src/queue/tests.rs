use approval::event::Ending;
use approval::request::ApprovalRequest;
use approval::request::{Grant, Reached, Requester};
use approval::vote::Answer;
use approval::{Approver, Book, Vote};
use proptest::prelude::*;
use types::approval::Coverage;
use types::id::RequestId;

use super::*;

const MINUTE_US: i64 = 60_000_000;

fn request(number: u32) -> ApprovalRequest {
    let mut id = [0; 16];
    id[12..].copy_from_slice(&number.to_be_bytes());
    ApprovalRequest {
        id: RequestId::from_bytes(id),
        node: "node".into(),
        at_us: i64::from(number),
        expires_us: MINUTE_US,
        session: "session".into(),
        command: 1,
        requester: Requester { agent: "bot".into(), ..Requester::default() },
        target: Reached { name: "bank".into(), ..Reached::default() },
        kind: "db.query".into(),
        verb: "DELETE".into(),
        accesses: vec!["delete public.transfers".into()],
        risks: vec![],
        normalized: "DELETE FROM transfers WHERE id = $1".into(),
        text: "DELETE FROM transfers WHERE id = 4711".into(),
        parameters: vec![],
        is_masked: false,
        rows_estimated: None,
        transaction: "none".into(),
        reason: "deletes wait".into(),
        policy_digest: String::new(),
        terms: vec![],
        covers: Coverage::Command,
        grant_s: 60,
        binding: "b".into(),
        pattern: "p".into(),
        shown_sha256: "s".into(),
    }
}

fn granted(request: &ApprovalRequest, broken_glass: bool) -> Event {
    Event::Granted(Grant {
        id: request.id,
        at_us: request.at_us + 1,
        expires_us: MINUTE_US,
        covers: Coverage::Command,
        binding: "b".into(),
        pattern: "p".into(),
        session: "session".into(),
        accesses: vec![],
        policies: vec![],
        approvers: vec!["ivy@idp".into()],
        broken_glass,
        spent: 0,
    })
}

fn broken(request: &ApprovalRequest) -> [Event; 2] {
    let vote = Vote {
        approver: Approver {
            idp: "idp".into(),
            sub: "ivy".into(),
            user: "Ivy".into(),
            groups: vec![],
        },
        answer: Answer::BreakGlass,
        reason: "the bank is on fire".into(),
        at_us: request.at_us + 1,
        way: "cli".into(),
        from: "uid 0".into(),
        shown_sha256: "s".into(),
    };
    [Event::Voted { request: request.id, vote }, granted(request, true)]
}

/// What a host has: a book and what is due, made of the same events.
struct Host {
    book: Book,
    queue: Queue,
    /// The journal: kind, detail, time.
    journal: Vec<(String, String, i64)>,
}

impl Host {
    fn new(hooks: &[(&str, &[Kind])]) -> Self {
        let mut host = Self { book: Book::default(), queue: queue(hooks), journal: vec![] };
        let names: Vec<Arc<str>> = hooks.iter().map(|(name, _)| Arc::from(*name)).collect();
        host.queue.name(&names, 0);
        let record = serde_json::to_string(&Hooks { hooks: names, due: 0 }).unwrap();
        host.journal.push((HOOKS_RECORD.into(), record, 0));
        host
    }

    fn happens(&mut self, event: &Event) -> Vec<Attempt> {
        self.journal.push((event.kind().into(), event.record(), 0));
        self.book.apply(event);
        let id = match event {
            Event::Requested(request) => request.id,
            Event::Granted(grant) => grant.id,
            Event::Voted { request, .. } | Event::Ended { request, .. } => *request,
            Event::Spent { grant, .. } => *grant,
        };
        self.queue.follow(event, self.book.standing(id).unwrap())
    }

    fn tried(
        &mut self,
        hook: &str,
        outcome: Result<u16, &Failure>,
        now_us: i64,
    ) -> Option<Attempt> {
        let Next::Send(notice) = self.queue.next(hook, now_us) else { return None };
        let attempt = self.queue.judge((&Arc::from(hook), &notice), outcome, (now_us, 0));
        self.queue.rest(hook, outcome.err(), (now_us, 0));
        let record = serde_json::to_string(&attempt).unwrap();
        self.journal.push((attempt.record_kind().into(), record, now_us));
        self.queue.attempted(&attempt, now_us);
        Some(attempt)
    }

    /// What is made of its journal.
    fn again(&self, hooks: &[(&str, &[Kind])]) -> Queue {
        let (mut book, mut again) = (Book::default(), queue(hooks));
        for (kind, detail, at_us) in &self.journal {
            again.read(kind, detail, *at_us);
            if let Some(event) = Event::read(kind, detail) {
                book.apply(&event);
                let standing = book.list(approval::desk::Which::All, 10_000).into_iter();
                for standing in standing {
                    let is_its = detail.contains(&standing.request.id.to_string());
                    if is_its {
                        drop(again.follow(&event, &standing));
                    }
                }
            }
        }
        again
    }
}

fn queue(hooks: &[(&str, &[Kind])]) -> Queue {
    Queue::new(hooks.iter().map(|(name, kinds)| (Arc::from(*name), kinds.to_vec())))
}

fn due(queue: &Queue) -> Vec<(String, String, u32)> {
    let due = queue.deliveries(100_000).into_iter().filter(|one| one.state == "due");
    due.map(|one| (one.hook, one.message, one.attempts)).collect()
}

fn failure(why: &str, is_receivers: bool) -> Failure {
    Failure { why: why.into(), is_receivers, is_final: false, asked_us: None }
}

#[test]
fn each_hook_hears_what_it_is_to_and_alerts_come_first() {
    let hooks: &[(&str, &[Kind])] = &[
        ("all", &Kind::ALL),
        ("alerts", &[Kind::BreakGlass]),
        ("granted", &[Kind::Granted]),
        ("none", &[]),
    ];
    let mut host = Host::new(hooks);
    let asked = request(1);
    host.happens(&Event::Requested(Box::new(asked.clone())));
    for event in broken(&asked) {
        host.happens(&event);
    }
    let of = |hook: &str| {
        let due = due(&host.queue).into_iter().filter(|(own, ..)| own == hook);
        due.map(|(_, id, _)| id.rsplit_once("001_").unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of("all"), ["break_glass", "requested"]);
    assert_eq!(of("alerts"), ["break_glass"]);
    assert_eq!(of("granted"), ["break_glass"], "who hears no alerts hears of it all the same");
    assert!(of("none").is_empty());
    let Next::Send(notice) = host.queue.next("all", 0) else { panic!() };
    let outcome = notice.outcome.as_ref().unwrap();
    assert_eq!(outcome.people, ["Ivy"]);
    assert_eq!(outcome.reason.as_deref(), Some("the bank is on fire"));
}

#[test]
fn failures_are_waited_for_and_one_day_given_up() {
    let mut host = Host::new(&[("a", &Kind::ALL)]);
    host.happens(&Event::Requested(Box::new(request(1))));
    host.happens(&Event::Requested(Box::new(request(2))));
    // One message that is not taken: the other goes on.
    let bad = host.tried("a", Err(&failure("status 400", false)), 0).unwrap();
    assert_eq!((bad.attempt, bad.next_us), (1, Some(500_000)));
    assert_eq!(host.tried("a", Ok(200), 0).unwrap().message, host_message(2));
    assert!(host.tried("a", Ok(200), 499_999).is_none());
    // A receiver that is away is left alone, longer each time.
    let mut now_us = 500_000;
    let mut attempts = 1;
    loop {
        let Some(attempt) = host.tried("a", Err(&failure("no answer", true)), now_us) else {
            let Next::At(at_us) = host.queue.next("a", now_us) else { panic!() };
            assert!(at_us > now_us && at_us <= now_us + 10 * MINUTE_US);
            now_us = at_us;
            continue;
        };
        attempts += 1;
        if attempt.given_up {
            break;
        }
    }
    assert!((145..300).contains(&attempts), "{attempts}");
    assert!(now_us > GIVEN_UP_AFTER_S * 1_000_000);
    assert!(matches!(host.queue.next("a", i64::MAX), Next::Nothing));
    let standing = &host.queue.standings()[0];
    assert_eq!((standing.delivered, standing.given_up), (1, 1));
}

#[test]
fn a_receiver_says_how_long_and_never_again() {
    let mut host = Host::new(&[("a", &Kind::ALL)]);
    host.happens(&Event::Requested(Box::new(request(1))));
    let busy = Failure { asked_us: Some(30_000_000), ..failure("status 429", true) };
    assert_eq!(host.tried("a", Err(&busy), 0).unwrap().next_us, Some(30_000_000));
    assert!(host.tried("a", Ok(200), 29_999_999).is_none());
    let gone = Failure { is_final: true, ..failure("status 410", false) };
    assert!(host.tried("a", Err(&gone), 30_000_000).unwrap().given_up);
}

#[test]
fn too_much_gives_up_the_oldest_and_no_alert() {
    let mut host = Host::new(&[("a", &Kind::ALL)]);
    let asked = request(0);
    host.happens(&Event::Requested(Box::new(asked.clone())));
    for event in broken(&asked) {
        host.happens(&event);
    }
    let mut dropped = Vec::new();
    for number in 1..=u32::try_from(DUE_MAX).unwrap() {
        let request = request(number);
        dropped.extend(host.happens(&Event::Requested(Box::new(request.clone()))));
        let how = Ending::Cancelled;
        // What is over leaves room for others.
        let ended = Event::Ended { request: request.id, how, reason: None, at_us: 1 };
        host.book.apply(&ended);
    }
    assert_eq!(dropped.len(), 2);
    assert_eq!(dropped[0].message, host_message(0));
    assert!(dropped.iter().all(|attempt| attempt.given_up));
    assert!(due(&host.queue)[0].1.ends_with("break_glass"));
}

#[test]
fn who_hears_from_today_on_hears_nothing_of_yesterday() {
    let old: &[(&str, &[Kind])] = &[("old", &Kind::ALL)];
    let mut host = Host::new(old);
    host.happens(&Event::Requested(Box::new(request(1))));
    let both: &[(&str, &[Kind])] = &[("old", &Kind::ALL), ("new", &Kind::ALL)];
    let mut again = host.again(both);
    assert_eq!(due(&again), [("old".to_owned(), host_message(1).to_string(), 0)]);
    again.name(&["old".into(), "new".into()], 5);
    let standing = |number| host.book.standing(request(number).id).unwrap().clone();
    drop(again.follow_all(&standing(1)));
    assert_eq!(due(&again).len(), 1, "nor is it missed");
    again.name(&["new".into()], 6);
    assert!(due(&again).is_empty(), "and who is gone hears nothing");
}

fn host_message(number: u32) -> Arc<str> {
    format!("msg_{}_requested", request(number).id).into()
}

proptest! {
    /// Whenever it is killed, what is due by its journal is what was due; and nothing is both delivered and due, or
    /// neither.
    #[test]
    fn what_is_due_is_in_the_journal(
        steps in proptest::collection::vec((0_u8..7, 1_u32..12, 0_u8..3), 1..80),
    ) {
        let hooks: &[(&str, &[Kind])] = &[("a", &Kind::ALL), ("b", &[Kind::BreakGlass])];
        let mut host = Host::new(hooks);
        let mut now_us = 0;
        for (what, number, how) in steps {
            let asked = request(number);
            let is_waiting = host.book.standing(asked.id).is_some_and(|one| one.ended.is_none());
            let is_new = host.book.standing(asked.id).is_none();
            now_us += 700_000;
            match what {
                0 | 1 if is_new => drop(host.happens(&Event::Requested(Box::new(asked)))),
                2 if is_waiting => drop(host.happens(&granted(&asked, false))),
                3 if is_waiting => {
                    for event in broken(&asked) { host.happens(&event); }
                }
                4 if is_waiting => {
                    let ended = Event::Ended { request: asked.id, how: Ending::Refused, reason: None, at_us: 2 };
                    host.happens(&ended);
                }
                5 | 6 => {
                    let hook = ["a", "b"][usize::from(what == 6)];
                    let failures = [failure("status 400", false), failure("no answer", true)];
                    let outcome = match how { 0 => Err(&failures[0]), 1 => Err(&failures[1]), _ => Ok(204) };
                    host.tried(hook, outcome, now_us);
                }
                _ => {}
            }
        }
        let again = host.again(hooks);
        prop_assert_eq!(due(&again), due(&host.queue));
        let done: usize = host.queue.standings().iter().map(|one| usize::try_from(one.delivered).unwrap()).sum();
        let delivered = host.journal.iter().filter(|(kind, ..)| kind == DELIVERED).count();
        prop_assert_eq!(done, delivered);
    }
}
