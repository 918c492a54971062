//! What both stores do alike, the database being a real one.

use std::sync::Arc;

use approval::desk::Over;
use approval::request::{Grant, Reached, Requester, Wants};
use approval::vote::{Answer, Approver, Voted};
use approval::{ApprovalRequest, Ending, VoteError};
use types::approval::Coverage;
use types::clock::Timestamp;
use types::secret::Secret;

use super::*;
use crate::protocol::{Known, Outcome, progress};

const HOST: &str = "db-1.bank.example";
const OTHER: &str = "db-2.bank.example";
const TEXT: &str = "DELETE FROM transfers WHERE id = 'the-secret-literal'";
const START_US: i64 = 1_790_000_000_000_000;

/// Runs one story with a file, with a database, and with two hubs' stores on that database in turn.
fn both<F: Future<Output = ()>>(story: impl Fn(Arc<Store>, Arc<Store>) -> F) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = FileStore::open(&directory.path().join("hub.redb")).unwrap();
    let file = Arc::new(Store::File(file));
    runtime.block_on(story(Arc::clone(&file), file));
    let postgres = integration::Postgres::start().unwrap();
    runtime.block_on(async {
        // At once: one of them makes the tables.
        let (one, other) = tokio::join!(database(&postgres), database(&postgres));
        story(Arc::new(one), Arc::new(other)).await;
        // And once more, as after a restart.
        drop(database(&postgres).await);
    });
}

async fn database(server: &integration::Postgres) -> Store {
    let url = format!(
        "postgresql://{}@127.0.0.1:{}/{}",
        integration::postgres::SUPERUSER,
        server.port(),
        integration::bank::DATABASE
    );
    let password: Password =
        Arc::new(|| Ok(Secret::new(integration::bank::PASSWORD.as_bytes().to_vec())));
    let rules = PostgresRules { url, password: Some(password), ca: None };
    Store::Postgres(PostgresStore::open(&rules).await.unwrap())
}

fn request(number: u8, node: &str) -> Standing {
    let at_us = START_US + i64::from(number) * 1_000_000;
    let now = Timestamp { unix_us: at_us, mono_ns: 0 };
    let mut request = ApprovalRequest {
        id: RequestId::new(now, [number; 10]),
        node: node.to_owned(),
        at_us,
        expires_us: at_us + 600_000_000,
        session: "s".into(),
        command: 1,
        requester: Requester {
            agent: "a".into(),
            command_line: Some(format!("psql -c {TEXT}")),
            ..Requester::default()
        },
        target: Reached::default(),
        kind: "db.query".into(),
        verb: "DELETE".into(),
        accesses: vec!["delete public.transfers".into()],
        risks: Vec::new(),
        normalized: "DELETE FROM transfers WHERE id = $1".into(),
        text: TEXT.into(),
        parameters: vec!["nul \0 and \u{202e}".into()],
        is_masked: false,
        rows_estimated: None,
        transaction: "none".into(),
        reason: "r".into(),
        policy_digest: "d".into(),
        terms: vec![Wants {
            policy: "p".into(),
            groups: vec!["dba".into()],
            people: 2,
            break_glass: Vec::new(),
        }],
        covers: Coverage::Command,
        grant_s: 60,
        binding: "b".into(),
        pattern: "p".into(),
        shown_sha256: String::new(),
    };
    request.shown_sha256 = approval::shown::shown_sha256(&request);
    Standing { request, votes: Vec::new(), grant: None, ended: None }
}

fn vote(sub: &str, user: &str, answer: Answer) -> Vote {
    Vote {
        approver: Approver {
            idp: "https://idp.example".into(),
            sub: sub.into(),
            user: user.into(),
            groups: vec!["dba".into()],
        },
        answer,
        reason: "because".into(),
        at_us: START_US,
        way: "console".into(),
        from: "10.0.0.1".into(),
        shown_sha256: "x".into(),
    }
}

fn over(mut standing: Standing, how: Ending) -> Standing {
    (standing.request.text, standing.request.parameters) = (String::new(), Vec::new());
    standing.request.requester.command_line = None;
    standing.ended = Some(Over { how, reason: None, at_us: standing.request.at_us + 1 });
    standing
}

async fn waiting(store: &Store) -> Vec<RequestId> {
    let listed = store.list(Which::Waiting, 100).await.unwrap();
    listed.into_iter().map(|standing| standing.request.id).collect()
}

#[test]
fn what_hosts_tell_is_shown_and_texts_go_with_the_end() {
    both(async |one, other| {
        let (first, second) = (request(1, HOST), request(2, OTHER));
        let (a, b) = (first.request.id, second.request.id);
        one.tell(HOST, vec![first.clone()]).await.unwrap();
        other.tell(OTHER, vec![second.clone()]).await.unwrap();
        assert_eq!(waiting(&other).await, [b, a], "newest first");
        assert_eq!(other.show(a).await.unwrap(), Some(first.clone()), "whole, with its text");
        // Another host's word on it changes nothing.
        let mut foreign = over(first.clone(), Ending::Refused);
        foreign.request.node = OTHER.into();
        one.tell(OTHER, vec![foreign]).await.unwrap();
        assert_eq!(waiting(&one).await, [b, a]);
        let ended = over(first.clone(), Ending::Cancelled);
        one.tell(HOST, vec![ended.clone()]).await.unwrap();
        // What was sent before and arrives late.
        other.tell(HOST, vec![first]).await.unwrap();
        assert_eq!(waiting(&one).await, [b]);
        assert_eq!(one.show(a).await.unwrap(), Some(ended), "no text, nor parameters");
        assert_eq!(one.list(Which::Over, 9).await.unwrap().len(), 1);
        assert_eq!(one.list(Which::All, 9).await.unwrap().len(), 2);
        assert_eq!(one.list(Which::All, 1).await.unwrap()[0].request.id, b);
    });
}

/// Whoever is shown a request while it waits is shown all of it: what is seen of it is what a vote is for.
#[test]
fn what_waits_is_shown_whole_from_the_first_moment() {
    both(async |one, other| {
        let told: Vec<Standing> = (0..100).map(|number| request(number, HOST)).collect();
        let tell = async {
            for standing in &told {
                one.tell(HOST, vec![standing.clone()]).await.unwrap();
            }
        };
        let look = async {
            let mut seen = 0;
            while seen < told.len() {
                let listed = other.list(Which::Waiting, 100).await.unwrap();
                for standing in &listed {
                    assert_eq!(standing.request.text, TEXT, "of {seen} seen before");
                }
                seen = listed.len();
            }
        };
        tokio::join!(tell, look);
    });
}

#[test]
fn one_persons_vote_is_there_once_until_its_host_said() {
    both(async |one, other| {
        let standing = request(1, HOST);
        let id = standing.request.id;
        one.tell(HOST, vec![standing.clone()]).await.unwrap();
        let ann = vote("u-1", "Ann", Answer::Approve);
        let Cast::Kept(kept) = one.cast(id, ann.clone()).await.unwrap() else { panic!("not kept") };
        // Of the same person: by the same key, and by the same name at another issuer.
        assert_eq!(other.cast(id, ann.clone()).await.unwrap(), Cast::Already(kept));
        let mut elsewhere = vote("other", "ANN", Answer::Approve);
        elsewhere.approver.idp = "https://second.example".into();
        assert_eq!(other.cast(id, elsewhere).await.unwrap(), Cast::Already(kept));
        let otherwise = vote("u-1", "Ann", Answer::Deny);
        assert_eq!(one.cast(id, otherwise).await.unwrap(), Cast::Otherwise);
        let bob = one.cast(id, vote("u-2", "", Answer::Approve)).await.unwrap();
        assert!(matches!(bob, Cast::Kept(_)), "names that are empty are nobody's");
        let cid = one.cast(id, vote("u-3", "", Answer::Approve)).await.unwrap();
        assert!(matches!(cid, Cast::Kept(_)));
        assert_eq!(
            one.show(id).await.unwrap().unwrap().votes.len(),
            3,
            "those that wait are shown"
        );
        let due = other.due(HOST, 2).await.unwrap();
        assert_eq!((due.len(), due[0].id, &due[0].vote), (2, kept, &ann));
        assert!(other.due(OTHER, 9).await.unwrap().is_empty());
        assert_eq!(one.progress(kept).await.unwrap(), Progress::Waiting);
        let said = |outcome: Outcome| vec![Settled { id: kept, outcome }];
        // Another host has no say.
        one.settle(OTHER, said(Ok(Voted::Refused))).await.unwrap();
        assert_eq!(one.progress(kept).await.unwrap(), Progress::Waiting);
        one.settle(HOST, said(Err(VoteError::ShownDiffers))).await.unwrap();
        let settled = Progress::Settled(Err(VoteError::ShownDiffers));
        assert_eq!(other.progress(kept).await.unwrap(), settled);
        other.settle(HOST, said(Ok(Voted::Granted))).await.unwrap();
        assert_eq!(other.progress(kept).await.unwrap(), settled, "the first word stands");
        assert_eq!(other.due(HOST, 9).await.unwrap().len(), 2);
        // What did not count is no answer: the person may look again.
        assert!(matches!(one.cast(id, ann.clone()).await.unwrap(), Cast::Kept(_)));
        one.tell(HOST, vec![over(standing, Ending::Expired)]).await.unwrap();
        let late = vote("u-9", "Late", Answer::Approve);
        assert_eq!(one.cast(id, late.clone()).await.unwrap(), Cast::Gone);
        assert_eq!(one.cast(request(9, HOST).request.id, late).await.unwrap(), Cast::Gone);
    });
}

#[test]
fn of_many_at_once_one_vote_counts() {
    both(async |one, other| {
        let standing = request(1, HOST);
        let id = standing.request.id;
        one.tell(HOST, vec![standing]).await.unwrap();
        let casts = (0..40).map(|at| {
            let store = if at % 2 == 0 { &one } else { &other };
            store.cast(id, vote("u-1", "Ann", Answer::Approve))
        });
        let cast: Vec<Cast> = futures_util::future::try_join_all(casts).await.unwrap();
        let kept = cast.iter().filter(|cast| matches!(cast, Cast::Kept(_))).count();
        assert_eq!(kept, 1, "{cast:?}");
        assert!(cast.iter().all(|cast| matches!(cast, Cast::Kept(_) | Cast::Already(_))));
    });
}

#[test]
fn what_waits_is_what_the_host_says_waits() {
    both(async |one, other| {
        let all: Vec<Standing> = (1..=4).map(|number| request(number, HOST)).collect();
        let ids: Vec<RequestId> = all.iter().map(|standing| standing.request.id).collect();
        one.tell(HOST, all[..3].to_vec()).await.unwrap();
        one.tell(OTHER, vec![request(9, OTHER)]).await.unwrap();
        let known = |standing: &Standing, more: u64| Known {
            id: standing.request.id,
            progress: progress(standing) + more,
        };
        // Said when the third was not asked yet: it stays. The fourth is not known, the second went on.
        let at_us = all[2].request.at_us;
        let waiting_there = vec![known(&all[1], 1), known(&all[3], 0)];
        let hello = Hello { at_us, waiting: waiting_there.clone() };
        let mut wanted = other.hello(HOST, hello).await.unwrap();
        wanted.sort_unstable();
        assert_eq!(wanted, [ids[1], ids[3]]);
        let others = request(9, OTHER).request.id;
        assert_eq!(waiting(&one).await, [others, ids[2], ids[1]]);
        let gone = one.show(ids[0]).await.unwrap().unwrap();
        assert_eq!(gone.ended.as_ref().map(|over| over.how), Some(Ending::Restarted));
        assert!(gone.request.text.is_empty());
        // The host's own word on it counts more, whichever it is.
        one.tell(HOST, vec![over(all[0].clone(), Ending::Cancelled)]).await.unwrap();
        let gone = other.show(ids[0]).await.unwrap().unwrap();
        assert_eq!(gone.ended.map(|over| over.how), Some(Ending::Cancelled));
        let hello = Hello { at_us: i64::MAX, waiting: Vec::new() };
        other.hello(HOST, hello.clone()).await.unwrap();
        assert_eq!(waiting(&one).await, [others]);
        one.tell(HOST, vec![all[1].clone()]).await.unwrap();
        assert_eq!(waiting(&one).await, [others, ids[1]], "it waits after all");
        assert!(
            one.hello(HOST, Hello { at_us, waiting: vec![known(&all[1], 0)] })
                .await
                .unwrap()
                .is_empty()
        );
    });
}

#[test]
fn what_nobody_speaks_of_ends_and_what_is_old_is_forgotten() {
    both(async |one, other| {
        let (first, second) = (request(1, HOST), request(2, HOST));
        let id = first.request.id;
        one.tell(HOST, vec![first.clone(), second.clone()]).await.unwrap();
        one.cast(id, vote("u-1", "Ann", Answer::Approve)).await.unwrap();
        assert_eq!(other.sweep(first.request.expires_us + 1, 0).await.unwrap(), (1, 0));
        let ended = one.show(id).await.unwrap().unwrap();
        assert_eq!(ended.ended.map(|over| over.how), Some(Ending::Expired));
        assert!(ended.request.text.is_empty());
        assert_eq!(one.sweep(0, second.request.at_us).await.unwrap(), (0, 1));
        assert_eq!(one.show(id).await.unwrap(), None);
        assert!(one.due(HOST, 9).await.unwrap().is_empty());
        // What waits is never old.
        assert_eq!(one.sweep(0, i64::MAX).await.unwrap(), (0, 0));
        assert_eq!(waiting(&one).await, [second.request.id]);
    });
}

#[test]
fn whoever_waits_is_told() {
    both(async |one, other| {
        let standing = request(1, HOST);
        let id = standing.request.id;
        // The listening connection is made meanwhile.
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let mut changes = other.changes();
        changes.mark_unchanged();
        let (told, changed) = tokio::join!(one.tell(HOST, vec![standing]), soon(changes.changed()));
        told.unwrap();
        changed.unwrap().unwrap();
        let waiter = other.wait_for(Awaited::Votes(HOST.into()));
        let cast = one.cast(id, vote("u-1", "Ann", Answer::Approve));
        let (cast, told) = tokio::join!(cast, soon(waiter.told()));
        told.unwrap();
        let Cast::Kept(kept) = cast.unwrap() else { panic!("not kept") };
        let waiter = other.wait_for(Awaited::Settled(kept));
        let settled = vec![Settled { id: kept, outcome: Ok(Voted::Counted) }];
        let (_, told) = tokio::join!(one.settle(HOST, settled), soon(waiter.told()));
        told.unwrap();
    });
}

async fn soon<T>(told: impl Future<Output = T>) -> Result<T, tokio::time::error::Elapsed> {
    tokio::time::timeout(std::time::Duration::from_secs(3), told).await
}

#[test]
fn a_file_keeps_votes_over_a_restart_and_no_texts() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hub.redb");
    let standing = request(1, HOST);
    let id = standing.request.id;
    runtime.block_on(async {
        let store = Store::File(FileStore::open(&path).unwrap());
        store.tell(HOST, vec![standing.clone()]).await.unwrap();
        store.cast(id, vote("u-1", "Ann", Answer::Approve)).await.unwrap();
        assert!(FileStore::open(&path).is_err(), "it is open already");
    });
    let bytes = std::fs::read(&path).unwrap();
    let has = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
    assert!(has(b"delete public.transfers") && !has(b"the-secret-literal"));
    // The thread that writes lets go of the file when it ends.
    integration::process::wait_until("the file is free", 5, || Ok(FileStore::open(&path).is_ok()))
        .unwrap();
    runtime.block_on(async {
        let store = Store::File(FileStore::open(&path).unwrap());
        assert_eq!(store.due(HOST, 9).await.unwrap().len(), 1);
        assert_eq!(waiting(&store).await, [id]);
        let known = vec![Known { id, progress: progress(&standing) }];
        let hello = Hello { at_us: standing.request.at_us + 1, waiting: known };
        assert_eq!(store.hello(HOST, hello).await.unwrap(), [id], "its text is wanted again");
        store.tell(HOST, vec![standing.clone()]).await.unwrap();
        assert_eq!(store.show(id).await.unwrap().unwrap().request, standing.request);
    });
}

/// Nothing of it is asked for by what stands here.
#[test]
fn grants_are_kept_with_their_uses() {
    both(async |one, other| {
        let mut standing = over(request(1, HOST), Ending::Granted);
        let id = standing.request.id;
        let grant = |spent| Grant {
            id,
            at_us: START_US,
            expires_us: START_US + 1,
            covers: Coverage::Alike(9),
            binding: "b".into(),
            pattern: "p".into(),
            session: "s".into(),
            accesses: Vec::new(),
            policies: vec!["p".into()],
            approvers: vec!["ann@idp".into()],
            broken_glass: false,
            spent,
        };
        for (spent, seen) in [(1, 1), (3, 3), (2, 3)] {
            standing.grant = Some(grant(spent));
            one.tell(HOST, vec![standing.clone()]).await.unwrap();
            let shown = other.show(id).await.unwrap().unwrap();
            assert_eq!(shown.grant.map(|grant| grant.spent), Some(seen));
        }
    });
}
