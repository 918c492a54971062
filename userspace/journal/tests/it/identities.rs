//! Commands of one session for one person after another.

use std::sync::Arc;

use journal::record::{Frame, IdentityChange};
use journal::recorder::{AppendError, Recorder};
use journal::row::{EventRow, Row};
use types::identity::{Identity, Subject};

use crate::world::{World, at, close, end, open, options, rows, segments, session};

fn identity(user: &str) -> Identity {
    let (user, idp) = (Arc::<str>::from(user), Arc::from("https://idp.example"));
    let (sub, groups, token) = (Arc::clone(&user), Arc::default(), Arc::default());
    Identity { subject: Some(Subject { user, idp, sub, groups, token }), ..Identity::default() }
}

fn change(to: &Recorder, number: u64, of: u32, user: &str) -> Result<(), AppendError> {
    let identity = identity(user);
    let session = session(number);
    let change = IdentityChange { session, number: of, at: at(1_500_000), identity: &identity };
    to.append(Frame::Identity(change)).map(drop)
}

fn begin(world: &World, to: &Recorder, command: u32, identity: u32) {
    let Frame::Begin(mut begin) = world.begin_frame(1, command) else { panic!("a begin") };
    begin.identity = identity;
    to.append(Frame::Begin(begin)).unwrap();
}

/// Fills more than a segment, so that what is open is carried into another.
fn fill(world: &World, to: &Recorder) {
    for number in 100..250 {
        world.open(to, number).unwrap();
        world.begin(to, number, 1).unwrap();
        end(to, number, 1).unwrap();
        close(to, number).unwrap();
    }
    to.settle().unwrap();
}

fn commands(rows: &[Row]) -> Vec<(i32, Option<&str>)> {
    let one = |row: &EventRow| row.session.session_id == session(1).to_string();
    let events = rows.iter().filter_map(|row| match row {
        Row::Event(row) if one(row) => Some((row.session_seq, row.session.actor_user.as_deref())),
        _ => None,
    });
    events.collect()
}

#[test]
fn a_command_has_the_identity_that_it_began_with_in_whatever_segment() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new();
    let (to, _) = open(&options(dir.path())).unwrap();
    world.open(&to, 1).unwrap();
    begin(&world, &to, 1, 0);
    change(&to, 1, 1, "ada").unwrap();
    begin(&world, &to, 2, 1);
    fill(&world, &to);
    change(&to, 1, 2, "bob").unwrap();
    begin(&world, &to, 3, 2);
    fill(&world, &to);
    for command in 1..=3 {
        end(&to, 1, command).unwrap();
    }
    // Nothing is open: the last one alone is kept, for what comes.
    fill(&world, &to);
    begin(&world, &to, 4, 2);
    change(&to, 1, 3, "eve").unwrap();
    fill(&world, &to);
    begin(&world, &to, 5, 3);
    end(&to, 1, 4).unwrap();
    end(&to, 1, 5).unwrap();
    to.close().unwrap();
    assert!(segments(dir.path()).len() > 4);
    let expected =
        [(1, None), (2, Some("ada")), (3, Some("bob")), (4, Some("bob")), (5, Some("eve"))];
    assert_eq!(commands(&rows(dir.path())), expected);
}

#[test]
fn what_a_crash_cut_off_has_its_identity() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new();
    let (to, _) = open(&options(dir.path())).unwrap();
    world.open(&to, 1).unwrap();
    change(&to, 1, 1, "ada").unwrap();
    begin(&world, &to, 1, 1);
    fill(&world, &to);
    to.close().unwrap();
    drop(to);
    let (to, recovery) = open(&options(dir.path())).unwrap();
    assert_eq!(recovery.commands_interrupted, 1);
    to.close().unwrap();
    assert_eq!(commands(&rows(dir.path())), [(1, Some("ada"))]);
}

#[test]
fn an_identity_is_of_an_open_session() {
    let dir = tempfile::tempdir().unwrap();
    let (to, _) = open(&options(dir.path())).unwrap();
    let refused = change(&to, 1, 1, "ada");
    assert_eq!(refused, Err(AppendError::OutOfOrder("session is not open")));
}
