//! Search: what is found in files, in the journal and across both, and nothing twice.

#![expect(clippy::unwrap_used, reason = "a test that fails may end")]

mod common;

use archive::search::{Cut, Found, Place, Sought, place, search, session};
use common::Node;

const DAY_US: i64 = 86_400_000_000;

fn of(node: &Node) -> Place {
    node.recorder.wait(node.last).unwrap();
    place(&node.archive(), ("n1", 1), &node.journal(), node.recorder.durable()).unwrap()
}

fn all() -> Sought {
    Sought { from_us: 0, until_us: i64::MAX, most: 100, ..Sought::default() }
}

fn seqs(found: &Found) -> Vec<u64> {
    found.events.iter().map(|event| event.seq.0).collect()
}

#[test]
fn what_is_sealed_and_what_is_not_is_found_once_and_newest_first() {
    let mut node = Node::start(1 << 20);
    let first = node.session(3);
    let unsealed = search(&of(&node), &all()).unwrap();
    assert_eq!(seqs(&unsealed), [7, 5, 3, 1]);
    assert_eq!(unsealed.cut, None);
    node.seal();
    let sealed = search(&of(&node), &all()).unwrap();
    assert_eq!(sealed, unsealed, "the same rows, from files");
    // On the next day.
    node.sleep(2 * DAY_US);
    let second = node.session(2);
    node.seal();
    let third = node.session(1);
    let found = search(&of(&node), &all()).unwrap();
    let sessions: Vec<_> =
        found.events.iter().map(|event| event.session.session_id.clone()).collect();
    let expected = [third, third, second, second, second, first, first, first, first];
    assert_eq!(sessions, expected.map(|session| session.to_string()));
    assert!(found.events.is_sorted_by_key(|event| std::cmp::Reverse(event.ts.0)));
    let few = search(&of(&node), &Sought { most: 4, ..all() }).unwrap();
    assert_eq!((seqs(&few), few.cut), (seqs(&found)[..4].to_vec(), Some(Cut::Most)));
}

#[test]
fn commands_are_found_by_what_they_are() {
    let mut node = Node::start(1 << 20);
    let first = node.session(3);
    node.sleep(DAY_US);
    let second = node.session(1);
    let noon_us = search(&of(&node), &all()).unwrap().events[2].ts.0 - 1;
    let first = first.to_string();
    let text = |text: &str| Some(text.to_owned());
    let agent = search(&of(&node), &all()).unwrap().events[0].session.agent_id.clone();
    let person = search(&of(&node), &all()).unwrap().events[0].session.actor_sub.clone();
    assert!(person.is_some());
    for is_sealed in [false, true] {
        if is_sealed {
            node.seal();
        }
        for (sought, found) in [
            (Sought { decision: text("deny"), ..all() }, 2),
            (Sought { decision: text("mask"), ..all() }, 4),
            (Sought { decision: text("approved"), ..all() }, 0),
            (Sought { object: text("customers"), ..all() }, 6),
            (Sought { object: text("public.customers"), ..all() }, 6),
            (Sought { object: text("public"), ..all() }, 0),
            (Sought { agent: Some(agent.to_string()), ..all() }, 6),
            (Sought { agent: text("nobody"), ..all() }, 0),
            (Sought { person: person.clone().map(String::from), ..all() }, 6),
            (Sought { person: text("nobody"), ..all() }, 0),
            (Sought { session: Some(second.to_string()), ..all() }, 2),
            (Sought { session: Some(first.clone()), decision: text("deny"), ..all() }, 1),
            (Sought { from_us: noon_us, ..all() }, 3),
            (Sought { until_us: noon_us, ..all() }, 3),
            (Sought { from_us: noon_us, until_us: noon_us, ..all() }, 0),
        ] {
            let events = search(&of(&node), &sought).unwrap().events;
            assert_eq!(events.len(), found, "{sought:?}, sealed {is_sealed}: {events:?}");
        }
    }
}

#[test]
fn a_session_is_whole_wherever_its_rows_are() {
    let mut node = Node::start(1 << 20);
    let opened_us = |node: &Node| search(&of(node), &all()).unwrap().events.last().unwrap().ts.0;
    let one = node.session(3);
    node.session(2);
    let before = session(&of(&node), &one.to_string(), opened_us(&node)).unwrap();
    node.seal();
    let after = session(&of(&node), &one.to_string(), opened_us(&node)).unwrap();
    assert_eq!(before, after);
    let numbers: Vec<_> = after.events.iter().map(|event| event.session_seq).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert_eq!(after.recordings.len(), 4);
    assert_eq!(after.session.unwrap().session_id, one.to_string());
    let nobody = session(&of(&node), "0198d2a2-0000-7000-8000-000000000000", 0).unwrap();
    assert_eq!((nobody.session, nobody.events.len()), (None, 0));
}
