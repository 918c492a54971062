//! The archives that are altered: made by the real recorder and writer, with a real witness.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use archive::continues;
use archive::retention::{self, Disposition, Gone, Periods};
use journal::disk::Os;
use journal::prune::{self, Limits};
use journal::start::Start;
use types::clock::Clock;
use witness::client::{self, Added};

use crate::common::{self, Node};

pub(crate) const ORIGIN: &str = "vestibule/node/n1/0";

/// Everything that cases need.
pub(crate) struct World {
    _root: tempfile::TempDir,
    /// The program under test.
    pub(crate) verifier: PathBuf,
    /// A node: `archive`, `journal`, `keys`, in three seals, each witnessed.
    pub(crate) node: PathBuf,
    /// The same node's folders after its first seal.
    pub(crate) earlier: PathBuf,
    /// The same node after its second seal.
    pub(crate) middle: PathBuf,
    /// The same node and times, with its key and one command less honest: all of it made anew.
    pub(crate) forged: PathBuf,
    /// A node that replaced its key between the second and the third seal.
    pub(crate) rotated: PathBuf,
    /// That node before it did, key and all.
    pub(crate) stolen: PathBuf,
    /// What is made with the stolen key after that: another history of the same length and more.
    pub(crate) usurped: PathBuf,
    /// A node whose first recordings were disposed of.
    pub(crate) disposed: PathBuf,
    /// A node whose journal let go of its first segments.
    pub(crate) pruned: PathBuf,
    /// Another host.
    pub(crate) other: PathBuf,
    /// What was verified of the node after its second seal.
    pub(crate) state: PathBuf,
    /// The policy that asks for the witness.
    pub(crate) policy: PathBuf,
    /// A policy that asks for a witness that never saw the node.
    pub(crate) strange_policy: PathBuf,
    /// A large archive; absent in a quick run.
    pub(crate) large: PathBuf,
    /// Records of the largest archive.
    pub(crate) largest: u64,
    _witness: Running,
}

/// A process that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl World {
    pub(crate) fn build(quick: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let verifier = beside("vestibule-verify");
        let mut node = Node::start(64 * 1024);
        let (witness, url) = start_witness(root.path(), &node);
        node.session(170);
        step(&mut node, &url);
        keep(&node, &at("earlier"));
        node.session(170);
        node.heartbeat();
        step(&mut node, &url);
        keep(&node, &at("middle"));
        let state = at("state.json");
        let verified = Command::new(&verifier)
            .args(["--state".as_ref(), state.as_os_str(), "--archive".as_ref()])
            .arg(node.archive())
            .output()
            .unwrap();
        assert!(verified.status.success(), "{verified:?}");
        node.sleep(3_600_000_000);
        node.session(100);
        step(&mut node, &url);
        keep(&node, &at("node"));
        forge(&node, &at("forged"));
        let (large, largest) = large(quick, &at("large"));
        rotate(&at("rotated"), &at("stolen"), &at("usurped"));
        dispose(&at("disposed"));
        let_go(&at("pruned"));
        let mut other = Node::start_as("n2", 64 * 1024);
        other.session(170);
        other.seal();
        other.session(170);
        other.heartbeat();
        other.seal();
        keep(&other, &at("other"));
        let key = std::fs::read_to_string(at("witness.vkey")).unwrap();
        let policy = format!("witness w {} {url}\nquorum w\n", key.trim());
        std::fs::write(at("policy"), policy).unwrap();
        let strange = witness::keyfile::Key::load_or_create(
            &at("strange.key"),
            "w.example/strange",
            tlog::note::Algorithm::Cosignature,
        );
        let policy = format!("witness s {}\nquorum s\n", strange.unwrap().public.line().trim());
        std::fs::write(at("strange-policy"), policy).unwrap();
        Self {
            verifier,
            node: at("node"),
            earlier: at("earlier"),
            middle: at("middle"),
            forged: at("forged"),
            rotated: at("rotated"),
            stolen: at("stolen"),
            usurped: at("usurped"),
            disposed: at("disposed"),
            pruned: at("pruned"),
            other: at("other"),
            state,
            policy: at("policy"),
            strange_policy: at("strange-policy"),
            large,
            largest,
            _witness: witness,
            _root: root,
        }
    }
}

/// A program that was built beside this one.
fn beside(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let folder = own.parent().and_then(Path::parent).unwrap();
    let program = folder.join(name);
    assert!(program.is_file(), "{} is not built", program.display());
    program
}

fn start_witness(root: &Path, node: &Node) -> (Running, String) {
    let key = node.signer().public().line();
    std::fs::write(root.join("logs"), format!("{ORIGIN} {key}")).unwrap();
    let mut child = Command::new(beside("vestibule-witness"))
        .args(["--listen", "127.0.0.1:0", "--name", "w.example/1"])
        .arg("--state")
        .arg(root.join("witness"))
        .arg("--logs")
        .arg(root.join("logs"))
        .arg("--key")
        .arg(root.join("witness.key"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    lines.read_line(&mut said).unwrap();
    let (place, key) = said.trim().split_once(", key ").unwrap();
    std::fs::write(root.join("witness.vkey"), key).unwrap();
    (Running(child), place.strip_prefix("listening on ").unwrap().to_owned())
}

/// Seals and has the checkpoint witnessed, as the daemon does.
fn step(node: &mut Node, url: &str) {
    node.seal();
    let archive = node.archive();
    let (note, says) = continues::newest(&archive, ORIGIN).unwrap().unwrap();
    let mut old = 0;
    for _ in 0..2 {
        let proof = continues::consistency(&archive, ORIGIN, old, says.size).unwrap();
        match client::add(url, old, &proof, &note).unwrap() {
            Added::Knows(size) => old = size,
            Added::Cosigned(line) => {
                let name = format!("std7y/v1/log/{ORIGIN}/cosigned/{:020}", says.size);
                return archive::files::write(&archive.join(name), line.as_bytes(), 0o644).unwrap();
            }
        }
    }
    panic!("the witness did not cosign");
}

/// Copies a node's folders.
fn keep(node: &Node, to: &Path) {
    for part in ["archive", "journal", "keys"] {
        common::plant(&to.join(part), &common::tree(&node.dir.path().join(part)));
    }
}

/// The node's whole history again, of the same length and signed with its own key, but for one command.
fn forge(node: &Node, to: &Path) {
    let mut forged = Node::start(64 * 1024);
    let keys = forged.dir.path().join("keys");
    common::plant(&keys, &common::tree(&node.dir.path().join("keys")));
    let session = forged.open();
    for command in 1..=171 {
        let text = format!("SELECT name FROM customers WHERE id = {}", command % 7);
        forged.begin(session, command, &text);
        forged.end(session, command, false);
    }
    forged.close(session);
    forged.seal();
    forged.session(170);
    forged.heartbeat();
    forged.seal();
    forged.sleep(3_600_000_000);
    forged.session(100);
    forged.seal();
    keep(&forged, to);
}

/// A node that replaces its key, its folders before that, and what their thief makes of them.
fn rotate(rotated: &Path, stolen: &Path, usurped: &Path) {
    let mut node = Node::start(64 * 1024);
    node.session(170);
    node.seal();
    keep(&node, stolen);
    node.rotate(Some(300));
    node.session(170);
    node.seal();
    node.session(20);
    node.seal();
    keep(&node, rotated);
    let mut thief = Node::start(64 * 1024);
    common::plant(&thief.dir.path().join("keys"), &common::tree(&stolen.join("keys")));
    thief.session(170);
    thief.seal();
    thief.session(171);
    thief.seal();
    thief.session(20);
    thief.seal();
    keep(&thief, usurped);
}

/// A node whose first recordings went when their time was over, as the daemon does it.
fn dispose(to: &Path) {
    let mut node = Node::start(64 * 1024);
    node.session(170);
    node.seal();
    let today = 20_778 + 398;
    let due = retention::due(&node.archive(), ORIGIN, &Periods::default(), today, None).unwrap();
    let files: Vec<Gone> = due.iter().map(|due| Gone::from(&due.entry)).collect();
    let last = archive::status::last(&node.archive(), "n1", 0).unwrap().unwrap();
    let said = Disposition {
        origin: ORIGIN.to_owned(),
        rule: "payload13m after 397 days".to_owned(),
        before: archive::layout::date(today - 397),
        approver: "ann@https://idp.example".to_owned(),
        reason: "time is over".to_owned(),
        size: last.tree_size,
        root: last.root,
        files: files.clone(),
    };
    let detail = serde_json::to_string(&said).unwrap();
    node.last = node.recorder.control(retention::DISPOSED, &detail).unwrap();
    node.seal();
    retention::remove(&node.archive(), ORIGIN, &files).unwrap();
    assert!(!files.is_empty());
    keep(&node, to);
}

/// A node whose journal let go of what was sealed, as the daemon does it.
fn let_go(to: &Path) {
    let mut node = Node::start(16 * 1024);
    node.session(170);
    node.session(170);
    let rows = node.seal().tree_size;
    let limits = Limits { rows, now: node.clock.now(), keep: Duration::ZERO };
    let due = prune::due(&node.journal(), &limits).unwrap().unwrap();
    node.last = node.recorder.control(Start::RECORD, &due.start.json().to_string()).unwrap();
    node.seal();
    prune::let_go(&Os, &node.journal(), &due.start).unwrap();
    // So that more than the last two segments are left of it.
    node.session(170);
    node.seal();
    keep(&node, to);
}

/// An archive of a million records, or a few thousand.
fn large(quick: bool, to: &Path) -> (PathBuf, u64) {
    let (sessions, seals) = if quick { (10, 3) } else { (200, 5) };
    let commands = if quick { 100 } else { 2_500 };
    let mut node = Node::start(64 * 1024 * 1024);
    let mut size = 0;
    for seal in 0..seals {
        for _ in 0..=sessions / seals {
            node.session(commands);
            node.recorder.wait(node.last).unwrap();
        }
        node.heartbeat();
        node.sleep(7 * 3_600_000_000);
        if seal == 1 {
            node.rotate(None);
        }
        size = node.seal().tree_size;
    }
    for part in ["archive", "journal", "keys"] {
        std::fs::create_dir_all(to).unwrap();
        std::fs::rename(node.dir.path().join(part), to.join(part)).unwrap();
    }
    (to.to_owned(), size)
}
