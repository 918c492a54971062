//! An evidence kit: sound, it is confirmed by programs that share no code with this one; spoilt in any file, that file is
//! named.

#![expect(clippy::unwrap_used, reason = "a test that fails may end")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use archive::attest::{Attestation, Document};
use archive::kit::{self, KitError, Options};
use common::{Node, plant, tree};

/// The Python that `cargo xtask setup` brings.
fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/venv/bin/python")
}

/// Runs a program of `kit` (or of another one) on it: whether it ended well, and what it said.
fn run(program: &Path, kit: &Path, more: &[&str]) -> (bool, String) {
    let output = Command::new(python())
        .args(["-I", "-B"])
        .arg(program)
        .arg(kit)
        .args(more)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

fn options(node: &Node, sessions: &[String]) -> Options {
    let out = node.dir.path().join(format!("kit-{}", sessions.len()));
    Options {
        archive: node.archive(),
        sessions: sessions.to_vec(),
        out,
        now_us: 1_795_400_000_000_000,
        keys: Vec::new(),
    }
}

fn make(node: &Node, sessions: &[String]) -> PathBuf {
    let options = options(node, sessions);
    let unsigned = kit::write(&options).unwrap();
    let said =
        Attestation { document: Document::Kit, sha256: unsigned.manifest, at_us: options.now_us };
    let signer = node.signer();
    unsigned.finish(&signer.attest(&said).unwrap(), &signer.public().line()).unwrap();
    options.out
}

/// A node with three sessions over two seals, and something unsealed.
fn node() -> (Node, Vec<String>) {
    let mut node = Node::start(16 * 1024);
    let mut sessions = vec![node.session(170)];
    node.heartbeat();
    node.seal();
    sessions.push(node.session(3));
    sessions.push(node.session(300));
    node.seal();
    node.heartbeat();
    (node, sessions.iter().map(ToString::to_string).collect())
}

#[test]
fn a_kit_holds_by_python_alone_and_its_report_by_duckdb() {
    let (node, sessions) = node();
    for chosen in [&sessions[1..2], &sessions[..]] {
        let kit = make(&node, chosen);
        let (holds, said) = run(&kit.join("verify.py"), &kit, &[]);
        assert!(holds && said.contains("OK: everything is as it was recorded"), "{said}");
        assert!(said.contains(&format!("session {}: commands 1 to 4", sessions[1])), "{said}");
        let (holds, said) = run(&kit.join("check.py"), &kit, &[]);
        assert!(holds && said.contains("OK: 14 numbers and"), "{said}");
    }
    let kit = node.dir.path().join("kit-1");
    let kept = node.dir.path().join("keys/n1.vkey").display().to_string();
    assert!(run(&kit.join("verify.py"), &kit, &["--key", &kept]).0);
    let other = archive::key::Signer::load_or_create(&node.dir.path().join("other"), "n1").unwrap();
    let strange = node.dir.path().join("other/n1.vkey").display().to_string();
    let (holds, said) = run(&kit.join("verify.py"), &kit, &["--key", &strange]);
    assert!(!holds && said.contains("is none of the keys that were given"), "{said}");
    drop(other);
    // Masked when it was recorded, masked here; and nothing is asked for when it is opened.
    let report = fs::read_to_string(kit.join("report.html")).unwrap();
    for outside in ["http://", "https://", "src=", "href=", "<script", "url("] {
        assert!(!report.contains(outside), "{outside}");
    }
    assert!(fs::read_to_string(kit.join("check.py")).unwrap().lines().count() < 100);
}

#[test]
fn whatever_file_is_spoilt_is_named() {
    let (node, sessions) = node();
    let kit = make(&node, &sessions[1..2]);
    let verifier = node.dir.path().join("verify.py");
    fs::copy(kit.join("verify.py"), &verifier).unwrap();
    let files = tree(&kit);
    let copy = node.dir.path().join("copy");
    let check = |spoilt: &BTreeMap<PathBuf, Vec<u8>>, name: &Path, how: &str| {
        let _was_there = fs::remove_dir_all(&copy).is_ok();
        plant(&copy, spoilt);
        let (holds, said) = run(&verifier, &copy, &[]);
        let last = said.lines().last().unwrap_or_default();
        let named = last.starts_with("FAILED: ") && last.contains(name.to_str().unwrap());
        assert!(!holds && named, "{how} {}: {said}", name.display());
    };
    assert!(files.len() >= 16, "{:?}", files.keys());
    for (path, bytes) in &files {
        let mut spoilt = files.clone();
        for at in [bytes.len() / 2, bytes.len().saturating_sub(2)] {
            if let Some(byte) = spoilt.get_mut(path).unwrap().get_mut(at) {
                *byte ^= 0x01;
                check(&spoilt, path, "flipped in");
                spoilt.insert(path.clone(), bytes.clone());
            }
        }
        spoilt.get_mut(path).unwrap().push(b' ');
        check(&spoilt, path, "longer");
        spoilt.remove(path);
        check(&spoilt, path, "without");
    }
    let mut more = files.clone();
    more.insert("rows/more.jsonl".into(), b"{}\n".to_vec());
    check(&more, Path::new("rows/more.jsonl"), "with");
}

/// Who changes a row and signs a new manifest with a key of his own has still no proof.
#[test]
fn a_kit_that_is_signed_anew_does_not_hold() {
    let (node, sessions) = node();
    let kit = make(&node, &sessions[1..2]);
    let lines = fs::read_to_string(kit.join("rows/events.jsonl")).unwrap();
    let rows: Vec<&str> = lines.lines().collect();
    let forged = [
        lines.replacen("\"decision\":\"deny\"", "\"decision\":\"allow\"", 1),
        rows[1..].join("\n") + "\n",
        format!("{lines}{}\n", rows[0]),
    ];
    for text in forged {
        assert_ne!(text, lines);
        let mut manifest: serde_json::Value =
            serde_json::from_slice(&fs::read(kit.join("manifest.json")).unwrap()).unwrap();
        for entry in manifest["files"].as_array_mut().unwrap() {
            if entry["path"] == "rows/events.jsonl" {
                use sha2::Digest;
                entry["sha256"] = types::hex::hex(&sha2::Sha256::digest(&text)).into();
                entry["bytes"] = text.len().into();
            }
        }
        manifest["rows"]["events"] = text.lines().count().into();
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let sha256 = sha2::Digest::finalize(sha2::Digest::chain_update(
            <sha2::Sha256 as sha2::Digest>::new(),
            &bytes,
        ));
        let said = Attestation { document: Document::Kit, sha256: sha256.into(), at_us: 0 };
        fs::write(kit.join("rows/events.jsonl"), &text).unwrap();
        fs::write(kit.join("manifest.json"), &bytes).unwrap();
        fs::write(kit.join("manifest.note"), node.signer().attest(&said).unwrap()).unwrap();
        let (holds, said) = run(&kit.join("verify.py"), &kit, &[]);
        assert!(!holds && said.contains("BAD  rows and proofs"), "{said}");
    }
}

#[test]
fn no_kit_is_made_of_what_is_not_whole() {
    let (mut node, sessions) = node();
    let refused = |options: &Options| kit::write(options).unwrap_err();
    let mut unsealed = options(&node, &["nothing".into()]);
    assert!(matches!(refused(&unsealed), KitError::NoSession(_)));
    unsealed.sessions = Vec::new();
    assert!(matches!(refused(&unsealed), KitError::Sessions));
    // One that is open is given as far as it is sealed.
    let open = node.open();
    node.begin(open, 1, "SELECT '</code><b>&amp;\"' -- \r\n\tö\u{2028}\u{1} end ");
    node.end(open, 1, false);
    node.seal();
    let kit = make(&node, &[open.to_string(), sessions[1].clone()]);
    let (holds, said) = run(&kit.join("verify.py"), &kit, &[]);
    assert!(holds && said.contains("and was open when they were sealed"), "{said}");
    assert!(run(&kit.join("check.py"), &kit, &[]).0);
    let of = options(&node, &sessions[..1]);
    let (whole, mut refusals) = (kit::write(&of).unwrap().rows.clone(), 0);
    for (path, bytes) in tree(&node.archive()) {
        let file = node.archive().join(&path);
        let is_part = path.to_str().unwrap().contains("/tile/") || path.ends_with("checkpoint");
        if is_part || path.to_str().unwrap().contains("table=events") {
            fs::remove_file(&file).unwrap();
            match kit::write(&of) {
                // It is of another session's.
                Ok(kit) => assert_eq!(kit.rows, whole, "{}", path.display()),
                Err(error) => {
                    assert!(error.to_string().contains("verify"), "{}: {error}", path.display());
                    refusals += 1;
                }
            }
            fs::write(&file, bytes).unwrap();
        }
    }
    assert!(refusals >= 3 && !of.out.exists() && kit::write(&of).is_ok(), "{refusals}");
}
