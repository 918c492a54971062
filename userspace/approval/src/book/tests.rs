use proptest::prelude::*;
use types::clock::Timestamp;

use super::*;
use crate::request::{Reached, Requester, Wants};
use crate::shown::shown_sha256;
use crate::vote::Approver;

fn request(number: u8, people: u8, covers: Coverage) -> ApprovalRequest {
    let at_us = 1_000_000 * i64::from(number);
    let mut request = ApprovalRequest {
        id: RequestId::new(Timestamp { unix_us: at_us, mono_ns: 0 }, [number; 10]),
        node: "node".into(),
        at_us,
        expires_us: 600_000_000,
        session: format!("session-{number}"),
        command: 7,
        requester: Requester {
            agent: "bot".into(),
            user: Some("carol".into()),
            idp: Some("idp".into()),
            sub: Some("c".into()),
            ..Requester::default()
        },
        target: Reached { name: "bank".into(), ..Reached::default() },
        kind: "db.query".into(),
        verb: "DELETE".into(),
        accesses: vec!["delete transfers".into()],
        risks: Vec::new(),
        normalized: "DELETE FROM transfers WHERE id = $1".into(),
        text: format!("DELETE FROM transfers WHERE id = {number}"),
        parameters: vec!["1".into()],
        is_masked: false,
        rows_estimated: None,
        transaction: "none".into(),
        reason: "deletes".into(),
        policy_digest: String::new(),
        terms: vec![Wants {
            policy: "deletes".into(),
            groups: vec!["dba".into(), "risk".into()],
            people,
            break_glass: vec!["incident".into()],
        }],
        covers,
        grant_s: 60,
        binding: format!("binding-{number}"),
        pattern: "pattern".into(),
        shown_sha256: String::new(),
    };
    request.shown_sha256 = shown_sha256(&request);
    request
}

fn vote(request: &ApprovalRequest, user: &str, answer: Answer) -> Vote {
    let groups: &[&str] = match user {
        "ivy" => &["incident"],
        "outsider" => &["staff"],
        _ => &["dba", "risk"],
    };
    Vote {
        approver: Approver {
            idp: "idp".into(),
            sub: format!("sub-{user}"),
            user: user.into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
        },
        answer,
        reason: "because".into(),
        at_us: 20_000_000,
        way: "cli".into(),
        from: "uid 0".into(),
        shown_sha256: request.shown_sha256.clone(),
    }
}

fn book(requests: &[&ApprovalRequest]) -> Book {
    let mut book = Book::default();
    for request in requests {
        book.apply(&Event::Requested(Box::new((*request).clone())));
    }
    book
}

fn cast(book: &mut Book, id: RequestId, vote: &Vote) -> Result<Voted, VoteError> {
    let (voted, events) = book.vote(id, vote)?;
    for event in &events {
        book.apply(event);
    }
    Ok(voted)
}

fn wanted<'a>(request: &'a ApprovalRequest, policies: &'a [String]) -> Wanted<'a> {
    Wanted {
        binding: &request.binding,
        pattern: &request.pattern,
        session: &request.session,
        accesses: &request.accesses,
        policies,
    }
}

#[test]
fn two_people_approve_and_the_command_goes_once() {
    let asked = request(1, 2, Coverage::Command);
    let mut book = book(&[&asked]);
    let ann = vote(&asked, "ann", Answer::Approve);
    assert_eq!(cast(&mut book, asked.id, &ann), Ok(Voted::Counted));
    assert_eq!(cast(&mut book, asked.id, &ann), Ok(Voted::Already));
    let other_name =
        Vote { approver: Approver { sub: "x".into(), ..ann.approver.clone() }, ..ann.clone() };
    assert_eq!(cast(&mut book, asked.id, &other_name), Ok(Voted::Already), "one person, two keys");
    assert!(book.release(asked.id, 21_000_000).is_none());
    assert_eq!(
        cast(&mut book, asked.id, &vote(&asked, "bob", Answer::Approve)),
        Ok(Voted::Granted)
    );
    let (grant, spent) = book.release(asked.id, 21_000_000).unwrap();
    assert_eq!(grant.approvers, ["sub-ann@idp", "sub-bob@idp"]);
    book.apply(&spent);
    assert!(book.release(asked.id, 21_000_000).is_none(), "once");
    let policies = ["deletes".to_owned()];
    assert!(
        book.spend(&wanted(&asked, &policies), 8, 21_000_000).is_none(),
        "a second run asks again"
    );
}

#[test]
fn who_may_not_vote_does_not() {
    let asked = request(1, 1, Coverage::Command);
    let mut book = book(&[&asked]);
    let ann = vote(&asked, "ann", Answer::Approve);
    let approve = |user| vote(&asked, user, Answer::Approve);
    let mut own = approve("carol");
    own.approver.sub = "other".into();
    for (vote, error) in [
        (own, "carol is whom the agent acts for"),
        (approve("outsider"), "needs a member of dba, risk"),
        (vote(&asked, "ann", Answer::BreakGlass), "breaking the glass"),
        (Vote { reason: " ".into(), ..vote(&asked, "ann", Answer::Deny) }, "a reason"),
        (Vote { shown_sha256: "00".into(), ..ann.clone() }, "look at it again"),
        (Vote { at_us: 600_000_000, ..ann.clone() }, "over: expired"),
    ] {
        let got = cast(&mut book, asked.id, &vote).unwrap_err().to_string();
        assert!(got.contains(error), "{got}: {error}");
    }
    assert_eq!(cast(&mut book, asked.id, &vote(&asked, "ann", Answer::Deny)), Ok(Voted::Refused));
    assert_eq!(cast(&mut book, asked.id, &ann), Err(VoteError::Otherwise));
    let late = cast(&mut book, asked.id, &vote(&asked, "bob", Answer::Approve));
    assert_eq!(late, Err(VoteError::Over(Ending::Refused)));
}

#[test]
fn who_may_breaks_the_glass_alone_and_for_one_command() {
    let asked = request(1, 2, Coverage::Session);
    let mut book = book(&[&asked]);
    assert_eq!(
        cast(&mut book, asked.id, &vote(&asked, "ivy", Answer::BreakGlass)),
        Ok(Voted::Granted)
    );
    let (grant, _) = book.release(asked.id, 21_000_000).unwrap();
    assert!(grant.broken_glass);
    let policies = ["deletes".to_owned()];
    assert!(book.spend(&wanted(&asked, &policies), 8, 21_000_000).is_none());
}

#[test]
fn what_a_grant_covers() {
    let policies = ["deletes".to_owned()];
    for covers in [Coverage::Alike(3), Coverage::Session] {
        let asked = request(1, 1, covers);
        let mut book = book(&[&asked]);
        cast(&mut book, asked.id, &vote(&asked, "ann", Answer::Approve)).unwrap();
        let now = 21_000_000;
        let (_, spent) = book.release(asked.id, now).unwrap();
        book.apply(&spent);
        let other = request(2, 1, covers);
        let elsewhere = wanted(&other, &policies);
        let here = Wanted { session: &asked.session, pattern: "other", ..elsewhere };
        assert_eq!(book.spend(&elsewhere, 1, now).is_some(), covers == Coverage::Alike(3));
        assert_eq!(book.spend(&here, 1, now).is_some(), covers == Coverage::Session);
        let more = ["delete transfers".to_owned(), "delete accounts".to_owned()];
        let wider = Wanted { accesses: &more, ..here };
        assert!(book.spend(&wider, 1, now).is_none(), "other objects");
        let unasked = ["deletes".to_owned(), "night".to_owned()];
        assert!(book.spend(&Wanted { policies: &unasked, ..elsewhere }, 1, now).is_none());
        assert!(book.spend(&Wanted { policies: &[], ..elsewhere }, 1, now).is_none());
        assert!(book.spend(&elsewhere, 1, 80_000_000).is_none() || covers == Coverage::Session);
        for _ in 0..2 {
            if let Some((_, spent)) = book.spend(&elsewhere, 1, now) {
                book.apply(&spent);
            }
        }
        assert!(book.spend(&elsewhere, 1, now).is_none(), "used up");
        assert!(book.spend(&here, 1, 80_000_001).is_none(), "over");
    }
}

#[test]
fn records_hold_no_literals_and_come_back() {
    let asked = request(1, 1, Coverage::Command);
    let event = Event::Requested(Box::new(asked.clone()));
    let record = event.record();
    assert!(!record.contains("id = 1") && record.contains("id = $1"), "{record}");
    let Some(Event::Requested(back)) = Event::read(event.kind(), &record) else {
        panic!("{record}")
    };
    assert_eq!(*back, ApprovalRequest { text: String::new(), parameters: Vec::new(), ..asked });
    assert_eq!(Event::read("approval.voted", &record), None);
}

proptest! {
    /// Whatever is done in whatever order, a grant is used no more often than it covers; and the book that
    /// the same events make, written twice here and there, is the same.
    #[test]
    fn nothing_is_overspent(
        steps in proptest::collection::vec((0_u8..6, 0_u8..3, 0_usize..4), 1..60),
        times in 1_u32..4,
        people in 1_u8..3,
    ) {
        let requests: Vec<_> = (1..=3).map(|n| request(n, people, Coverage::Alike(times))).collect();
        let mut book = Book::default();
        let mut written: Vec<Event> = Vec::new();
        let mut used: BTreeMap<RequestId, u32> = BTreeMap::new();
        let policies = ["deletes".to_owned()];
        for (what, which, who) in steps {
            let asked = &requests[usize::from(which)];
            let user = ["ann", "bob", "ivy", "carol"][who];
            let events = match what {
                0 => vec![Event::Requested(Box::new(asked.clone()))],
                1 | 2 => {
                    let answer = [Answer::Approve, Answer::Deny][usize::from(what == 2)];
                    book.vote(asked.id, &vote(asked, user, answer)).map_or(Vec::new(), |(_, e)| e)
                }
                3 => book.spend(&wanted(asked, &policies), 1, 21_000_000).map_or(Vec::new(), |(_, e)| vec![e]),
                4 => book.release(asked.id, 21_000_000).map_or(Vec::new(), |(_, e)| vec![e]),
                _ => book.end(asked.id, Ending::Cancelled, 22_000_000).map_or(Vec::new(), |e| vec![e]),
            };
            for event in events {
                if let Event::Spent { grant, .. } = &event {
                    *used.entry(*grant).or_default() += 1;
                }
                book.apply(&event);
                written.push(event);
            }
        }
        prop_assert!(used.values().all(|used| *used <= times));
        let mut again = Book::default();
        for event in &written {
            again.apply(event);
            // Spending twice by one record only ever takes away.
            if !matches!(event, Event::Spent { .. }) {
                again.apply(event);
            }
        }
        prop_assert_eq!(again.list(Which::All, 100), book.list(Which::All, 100));
        let left = |book: &Book| book.grants(21_000_000).cloned().collect::<Vec<_>>();
        prop_assert_eq!(left(&again), left(&book));
        for standing in book.list(Which::All, 100) {
            let voters: Vec<_> = standing.votes.iter().map(|vote| vote.approver.user.as_str()).collect();
            prop_assert!(!voters.contains(&"carol"), "whom the agent acts for voted");
            if let Some(grant) = standing.grant {
                prop_assert!(grant.approvers.len() >= usize::from(people));
            }
        }
    }
}
