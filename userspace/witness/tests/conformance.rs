//! A witness over HTTP against C2SP tlog-witness: statuses, bodies, what is kept, two at once.

#![expect(clippy::unwrap_used, reason = "a test that fails may end")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tlog::cosignature;
use tlog::merkle::{self, Hash, Tree};
use tlog::note::{self, Algorithm};
use tlog::proof::{self, Subtree};
use witness::client::{self, Added, AskError};
use witness::keyfile::Key;
use witness::log::{Witness, hash};
use witness::server;

const ORIGIN: &str = "vestibule/node/n1/0";

fn log_key(dir: &Path) -> Key {
    Key::load_or_create(&dir.join("log"), "vestibule/node/n1", Algorithm::Ed25519).unwrap()
}

fn own_key(dir: &Path) -> Key {
    Key::load_or_create(&dir.join("own"), "w.example/1", Algorithm::Cosignature).unwrap()
}

/// A witness of one log, served from its folder for as long as the tests run.
fn start(dir: &Path) -> SocketAddr {
    let list = format!("# logs\n{ORIGIN} {}", log_key(dir).public.line());
    let witness = Witness::new(&dir.join("state"), own_key(dir), &list).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || server::serve(&listener, &witness, &|| 1_800_000_000));
    address
}

fn leaf(n: u64) -> Hash {
    let mut leaf = [0; 32];
    leaf[..8].copy_from_slice(&n.to_be_bytes());
    leaf
}

fn root(size: u64) -> Hash {
    let mut tree = Tree::default();
    (0..size).for_each(|n| tree.push(leaf(n), &mut Vec::new()));
    tree.root()
}

fn checkpoint(origin: &str, size: u64, root: &Hash, key: &Key) -> String {
    let text = format!("{origin}\n{size}\n{}\nmanifest 00\n", STANDARD.encode(root));
    note::sign(&text, &key.key, &key.public)
}

fn consistency(old: u64, new: u64) -> Vec<Hash> {
    let mut hash = |Subtree { level, index }: Subtree| {
        let leaves: Vec<Hash> = (index << level..(index + 1) << level).map(leaf).collect();
        Some(merkle::root(&leaves))
    };
    proof::consistency(old, new, &mut hash).unwrap()
}

#[track_caller]
fn refused(result: Result<Added, AskError>, due: u16) {
    match result {
        Err(AskError::Refused { status, .. }) => assert_eq!(status, due),
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_cosigns_what_continues_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("http://{}", start(dir.path()));
    let (log, own) = (log_key(dir.path()), own_key(dir.path()));
    let add = |old, size, root: &Hash, proof: &[Hash]| {
        client::add(&url, old, proof, &checkpoint(ORIGIN, size, root, &log))
    };
    assert_eq!(client::checkpoint(&url, ORIGIN).unwrap(), None);
    refused(client::add(&url, 0, &[], &checkpoint("another/log", 5, &root(5), &log)), 404);
    refused(client::add(&url, 0, &[], &checkpoint(ORIGIN, 5, &root(5), &own)), 403);
    let stranger =
        Key::load_or_create(&dir.path().join("x"), "vestibule/node/n1", Algorithm::Ed25519);
    refused(client::add(&url, 0, &[], &checkpoint(ORIGIN, 5, &root(5), &stranger.unwrap())), 403);
    let forged = checkpoint(ORIGIN, 5, &root(5), &log).replacen("\n5\n", "\n6\n", 1);
    refused(client::add(&url, 0, &[], &forged), 403);
    refused(add(6, 5, &root(5), &[]), 400);
    refused(add(0, 5, &root(5), &[[0; 32]]), 422);
    let Added::Cosigned(lines) = add(0, 5, &root(5), &[]).unwrap() else { panic!() };
    let note = checkpoint(ORIGIN, 5, &root(5), &log);
    let (text, _) = note::split(&note).unwrap();
    let parsed = note::lines(&lines).unwrap();
    assert_eq!(cosignature::time_s(text, &parsed, &own.public), Some(1_800_000_000));
    // What it says last has the log's signature and its own.
    let kept = client::checkpoint(&url, ORIGIN).unwrap().unwrap();
    let (said, by) = note::split(&kept).unwrap();
    assert!(said == text && note::is_signed(said, &by, &log.public));
    assert!(cosignature::time_s(said, &by, &own.public).is_some());
    // Another old size than it knows is answered with the one that it knows.
    assert_eq!(add(0, 9, &root(9), &[]).unwrap(), Added::Knows(5));
    assert_eq!(add(4, 9, &root(9), &consistency(4, 9)).unwrap(), Added::Knows(5));
    refused(add(5, 9, &root(9), &[]), 422);
    refused(add(5, 9, &root(8), &consistency(5, 9)), 422);
    refused(add(5, 5, &root(6), &[]), 422);
    assert!(matches!(add(5, 5, &root(5), &[]).unwrap(), Added::Cosigned(_)));
    assert!(matches!(add(5, 700, &root(700), &consistency(5, 700)).unwrap(), Added::Cosigned(_)));
    // A smaller tree, later: a rollback.
    assert_eq!(add(5, 9, &root(9), &consistency(5, 9)).unwrap(), Added::Knows(700));
    refused(add(700, 9, &root(9), &[]), 400);
}

#[test]
fn it_remembers_across_restarts_and_trusts_no_state_but_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_key(dir.path());
    let note = |size| checkpoint(ORIGIN, size, &root(size), &log);
    let url = format!("http://{}", start(dir.path()));
    assert!(matches!(client::add(&url, 0, &[], &note(300)).unwrap(), Added::Cosigned(_)));
    let url = format!("http://{}/", start(dir.path()));
    assert_eq!(client::add(&url, 0, &[], &note(301)).unwrap(), Added::Knows(300));
    // A state that it did not sign is not taken, and not taken for none.
    let state = dir.path().join("state").join(hash(ORIGIN));
    std::fs::write(&state, note(5)).unwrap();
    refused(client::add(&url, 5, &consistency(5, 301), &note(301)), 500);
    refused(client::add(&url, 0, &[], &note(301)), 500);
}

#[test]
fn of_two_at_once_one_is_cosigned_and_the_other_told_the_size() {
    let dir = tempfile::tempdir().unwrap();
    let log = log_key(dir.path());
    let url = format!("http://{}", start(dir.path()));
    let note = |size| checkpoint(ORIGIN, size, &root(size), &log);
    assert!(matches!(client::add(&url, 0, &[], &note(10)).unwrap(), Added::Cosigned(_)));
    let answers: Vec<Added> = std::thread::scope(|scope| {
        let ask = |size: u64| {
            let (url, note) = (url.clone(), note(size));
            scope.spawn(move || client::add(&url, 10, &consistency(10, size), &note).unwrap())
        };
        let asked: Vec<_> = (20..28).map(ask).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let cosigned = answers.iter().filter(|answer| matches!(answer, Added::Cosigned(_))).count();
    assert_eq!(cosigned, 1, "{answers:?}");
}

#[test]
fn what_is_no_request_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let address = start(dir.path());
    let ask = |request: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        // Where it closes with bytes unread the answer may be a reset.
        stream.read_to_string(&mut answer).ok();
        answer
    };
    let post = |body: &str| {
        ask(&format!(
            "POST /add-checkpoint HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    for body in [
        "",
        "old 0\n",
        "old 00\n\nx\n0\nAA==\n\n",
        "old -1\n\n",
        "new 0\n\n",
        "old 0\nnot base64\n\nx",
    ] {
        assert!(post(body).starts_with("HTTP/1.1 400"), "{body:?}");
    }
    let many = format!("old 0\n{}\n", format!("{}\n", STANDARD.encode([0; 32])).repeat(64));
    assert!(post(&many).starts_with("HTTP/1.1 400"));
    assert!(ask("GET /add-checkpoint HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
    assert!(ask("GET /../secret/checkpoint HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
    for request in [
        "nonsense\r\n\r\n",
        "POST /add-checkpoint HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n",
        "POST /add-checkpoint HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /add-checkpoint HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    ] {
        assert_eq!(ask(request), "", "{request:?}");
    }
}
