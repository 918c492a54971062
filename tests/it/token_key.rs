//! The key of checkpoints in a token: `SoftHSM`, a TPM.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use integration::process::{Output, run, wait_until};
use integration::tokens::PIN;
use integration::{Token, World, paths};

fn seal(world: &World) -> Output {
    run(world.daemon.cli().args(["archive", "seal"]), 60).unwrap()
}

fn keys(world: &World) -> PathBuf {
    world.daemon.archive().parent().unwrap().join("keys")
}

/// The lines of the node's public keys, the newest last.
fn public(world: &World) -> Vec<String> {
    let node = world.daemon.status().unwrap()["node"].as_str().unwrap().to_owned();
    let lines = fs::read_to_string(keys(world).join(format!("{node}.vkey"))).unwrap();
    lines.lines().map(str::to_owned).collect()
}

fn verify(world: &World) -> Output {
    let node = world.daemon.status().unwrap()["node"].as_str().unwrap().to_owned();
    let key = keys(world).join(format!("{node}.vkey"));
    run(world.daemon.verifier().arg("--key").arg(key), 60).unwrap()
}

/// The newest checkpoint's note.
fn checkpoint(world: &World) -> PathBuf {
    let mut find = Command::new("find");
    find.arg(world.daemon.archive()).args(["-name", "checkpoint", "-type", "f"]);
    PathBuf::from(run(&mut find, 10).unwrap().ok().unwrap().trim())
}

/// A world whose key of checkpoints was in a file and is in a token now, with checkpoints of both.
fn moved_to(token: &Token) -> World {
    let mut world = World::start().unwrap();
    world.read().unwrap();
    seal(&world).ok().unwrap();
    world.daemon.set_environment(token.environment());
    world.daemon.restart_with(&token.rule()).unwrap();
    wait_until("the key is replaced", 60, || Ok(public(&world).len() == 2)).unwrap();
    world.read().unwrap();
    seal(&world).ok().unwrap();
    verify(&world).ok().unwrap();
    world
}

/// Whether OpenSSL says that the note is signed with the key of the line, ECDSA.
fn openssl_says(note: &Path, line: &str, folder: &Path) -> Output {
    let python = "import base64,sys\n\
        note = open(sys.argv[1]).read(); text, _, lines = note.partition('\\n\\n')\n\
        key = base64.b64decode(sys.argv[2].split('+', 2)[2])\n\
        assert key[0] == 2\n\
        open(sys.argv[3] + '/key.der', 'wb').write(key[1:])\n\
        open(sys.argv[3] + '/text', 'w').write(text + '\\n')\n\
        open(sys.argv[3] + '/signature', 'wb').write(base64.b64decode(lines.split(' ')[2])[4:])\n";
    let mut taken = Command::new(paths::python());
    run(taken.args(["-c", python]).arg(note).arg(line).arg(folder), 30).unwrap().ok().unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["dgst", "-sha256", "-keyform", "DER", "-verify", "key.der"]);
    run(openssl.args(["-signature", "signature", "text"]).current_dir(folder), 30).unwrap()
}

#[test]
fn the_key_of_checkpoints_moves_to_a_token_that_may_go_and_come_back() {
    let token = Token::softhsm("the bank's").unwrap();
    let mut world = moved_to(&token);
    // What stays here is its name, and nothing of the token is said.
    let node = world.daemon.status().unwrap()["node"].as_str().unwrap().to_owned();
    let kept = fs::read_to_string(keys(&world).join(format!("{node}.key"))).unwrap();
    assert_eq!(kept, "token checkpoints\n");
    assert!(!world.daemon.log().contains(PIN));
    let listed = token.as_user(&["--list-objects"]).unwrap();
    assert!(listed.contains("EC_EDWARDS") && listed.contains("never extractable"), "{listed}");

    // While it is away nothing is sealed, which is said, and all goes on.
    token.take_away(true).unwrap();
    world.read().unwrap();
    let refused = seal(&world);
    assert!(refused.stderr.contains("the token that holds the key"), "{refused:?}");
    let status = world.daemon.status().unwrap();
    assert!(status["archive_trouble"].as_str().unwrap().contains("token"), "{status}");
    let doctor = run(world.daemon.cli().arg("doctor"), 60).unwrap();
    assert!(doctor.stdout.contains("not sealed"), "{doctor:?}");
    world.read().unwrap();
    let before = fs::read_to_string(checkpoint(&world)).unwrap();
    token.take_away(false).unwrap();
    // It goes on by itself.
    wait_until("what waited is sealed", 60, || {
        Ok(fs::read_to_string(checkpoint(&world))? != before)
    })
    .unwrap();
    wait_until("that is said", 20, || Ok(world.daemon.status()?["archive_trouble"].is_null()))
        .unwrap();
    seal(&world).ok().unwrap();
    let verified = verify(&world).ok().unwrap();
    assert!(verified.contains("the key was replaced"), "{verified}");
    let evidence = world.evidence().unwrap();
    let told = evidence.query("SELECT kind FROM control WHERE kind LIKE 'key.%' ORDER BY seq");
    let kinds: Vec<String> =
        told.unwrap().iter().map(|row| row["kind"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["key.rotated", "key.away", "key.back"]);

    // A PIN that was changed in the token is tried once, not until the token locks itself.
    token.write_pin("11111111").unwrap();
    token.take_away(true).unwrap();
    seal(&world);
    token.take_away(false).unwrap();
    let is_given_up = || {
        let refused = seal(&world);
        Ok(refused.stderr.contains("is not tried again until that file is written"))
    };
    wait_until("the PIN is given up", 60, is_given_up).unwrap();
    token.write_pin(PIN).unwrap();
    wait_until("the right one is taken", 60, || Ok(seal(&world).ok().is_ok())).unwrap();

    // The key that follows is made in the token as well.
    let mut rotate = world.daemon.cli();
    run(rotate.args(["archive", "rotate-key"]), 60).unwrap().ok().unwrap();
    let kept = fs::read_to_string(keys(&world).join(format!("{node}.key"))).unwrap();
    assert_eq!((kept.as_str(), public(&world).len()), ("token checkpoints-2\n", 3));
    verify(&world).ok().unwrap();

    // Without the token, or with a PIN that is not its own, the daemon does not start as if all were well.
    world.daemon.stop().unwrap();
    token.write_pin("11111111").unwrap();
    let refused = world.daemon.another().unwrap();
    assert!(refused.stderr.contains("logging in to the token"), "{refused:?}");
    token.write_pin(PIN).unwrap();
    token.take_away(true).unwrap();
    let refused = world.daemon.another().unwrap();
    assert!(refused.stderr.contains("no token is called `the bank's`"), "{refused:?}");
    token.take_away(false).unwrap();
    world.daemon.restart().unwrap();
    seal(&world).ok().unwrap();
    verify(&world).ok().unwrap();
}

/// The keys in a token: each half by its label.
fn halves(token: &Token) -> Vec<(String, String)> {
    let listed = token.as_user(&["--list-objects"]).unwrap();
    let (mut found, mut half) = (Vec::new(), String::new());
    for line in listed.lines() {
        if let Some(kind) = line.split(" Key Object").next().filter(|kind| *kind != line) {
            kind.clone_into(&mut half);
        } else if let Some(label) = line.trim().strip_prefix("label:") {
            found.push((label.trim().to_owned(), half.clone()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_retired_key_is_destroyed_in_its_token_and_none_that_signs() {
    let token = Token::softhsm("hsm").unwrap();
    let mut world = moved_to(&token);
    let ask = |world: &World, arguments: &[&str]| {
        let mut archive = world.daemon.cli();
        run(archive.arg("archive").args(arguments), 60).unwrap()
    };
    let of = |name: &str| [(name.to_owned(), "Private".into()), (name.to_owned(), "Public".into())];
    let none = ask(&world, &["destroy-keys"]).ok().unwrap();
    assert!(none.starts_with("0 keys"), "{none}");
    // What signs stays, and what is not there is not destroyed.
    for name in ["checkpoints", "checkpoints-2", "other"] {
        let refused = ask(&world, &["destroy-keys", name]);
        assert!(refused.stderr.contains("that another of this node's has followed"), "{refused:?}");
    }
    assert_eq!(halves(&token), of("checkpoints"));
    ask(&world, &["rotate-key"]).ok().unwrap();
    let listed = ask(&world, &["destroy-keys"]).ok().unwrap();
    assert!(listed.starts_with("checkpoints (vestibule/node/"), "{listed}");
    assert!(listed.contains("\n1 keys"), "{listed}");
    // One of those that are named is in use: none goes.
    let refused = ask(&world, &["destroy-keys", "checkpoints", "checkpoints-2"]);
    assert!(refused.ok().is_err());
    token.take_away(true).unwrap();
    assert!(ask(&world, &["destroy-keys", "checkpoints"]).ok().is_err());
    token.take_away(false).unwrap();
    wait_until("it is back", 60, || Ok(seal(&world).ok().is_ok())).unwrap();
    assert_eq!(halves(&token).len(), 4);
    let gone = ask(&world, &["destroy-keys", "checkpoints"]).ok().unwrap();
    assert!(gone.starts_with("destroyed: checkpoints ("), "{gone}");
    assert_eq!(halves(&token), of("checkpoints-2"));
    let verified = verify(&world).ok().unwrap();
    assert!(verified.contains("the key was replaced"), "{verified}");
    // Its name is free for the next one; of the one before a crash left half.
    ask(&world, &["rotate-key"]).ok().unwrap();
    token.as_user(&["--delete-object", "--type", "privkey", "--label", "checkpoints-2"]).unwrap();
    assert_eq!(halves(&token).len(), 3);
    ask(&world, &["destroy-keys", "checkpoints-2"]).ok().unwrap();
    assert_eq!(halves(&token), of("checkpoints"));
    world.daemon.stop().unwrap();
    world.daemon.restart().unwrap();
    world.read().unwrap();
    seal(&world).ok().unwrap();
    verify(&world).ok().unwrap();
    let evidence = world.evidence().unwrap();
    let told = evidence.query(
        "SELECT kind, json_extract_string(detail, '$.name') AS name FROM control WHERE kind LIKE 'key.destroy%' ORDER BY seq",
    );
    let told: Vec<String> = told
        .unwrap()
        .iter()
        .map(|row| format!("{} {}", row["kind"].as_str().unwrap(), row["name"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            "key.destroy_refused checkpoints",
            "key.destroy_refused checkpoints-2",
            "key.destroy_refused other",
            "key.destroy_refused checkpoints-2",
            "key.destroying checkpoints",
            "key.destroyed checkpoints",
            "key.destroying checkpoints-2",
            "key.destroyed checkpoints-2",
        ]
    );
}

#[test]
fn keys_of_an_earlier_label_are_found_and_destroyed() {
    let token = Token::softhsm("hsm").unwrap();
    let mut world = moved_to(&token);
    let ask = |world: &World, arguments: &[&str]| {
        let mut archive = world.daemon.cli();
        run(archive.arg("archive").args(arguments), 60).unwrap()
    };
    // Others' keys are none of the node's, whatever they are called.
    for (label, id) in [("audit-1", "a1"), ("checkpoints-2", "a2")] {
        let pair = ["--keypairgen", "--key-type", "EC:prime256v1", "--label", label, "--id", id];
        token.as_user(&pair).unwrap();
    }
    let text = fs::read_to_string(world.daemon.config()).unwrap();
    let renamed = text.replace("label = \"checkpoints\"", "label = \"audit\"");
    assert_ne!(text, renamed);
    fs::write(world.daemon.config(), renamed).unwrap();
    world.daemon.stop().unwrap();
    world.daemon.restart().unwrap();
    // The key in force keeps its name until it is replaced, and stays as long.
    assert!(ask(&world, &["destroy-keys"]).ok().unwrap().starts_with("0 keys"));
    assert!(ask(&world, &["destroy-keys", "checkpoints"]).ok().is_err());
    ask(&world, &["rotate-key"]).ok().unwrap();
    let names = || {
        let mut names: Vec<_> = halves(&token).into_iter().map(|(name, _)| name).collect();
        names.dedup();
        names
    };
    assert_eq!(names(), ["audit", "audit-1", "checkpoints", "checkpoints-2"]);
    let listed = ask(&world, &["destroy-keys"]).ok().unwrap();
    assert!(listed.starts_with("checkpoints (vestibule/node/"), "{listed}");
    assert!(listed.contains("\n1 keys"), "{listed}");
    for name in ["audit", "audit-1", "checkpoints-2"] {
        let refused = ask(&world, &["destroy-keys", "checkpoints", name]);
        assert!(refused.ok().is_err(), "{name}");
    }
    ask(&world, &["destroy-keys", "checkpoints"]).ok().unwrap();
    assert_eq!(names(), ["audit", "audit-1", "checkpoints-2"]);
    world.read().unwrap();
    seal(&world).ok().unwrap();
    verify(&world).ok().unwrap();
}

#[test]
fn a_tpm_signs_and_openssl_and_a_kit_say_so() {
    let token = Token::tpm("tpm").unwrap();
    let mut world = moved_to(&token);
    let folder = tempfile::tempdir().unwrap();
    let (note, lines) = (checkpoint(&world), public(&world));
    let said = openssl_says(&note, &lines[1], folder.path());
    assert!(said.ok().unwrap().contains("Verified OK"));
    let text = fs::read_to_string(&note).unwrap();
    let altered = folder.path().join("altered");
    fs::write(&altered, text.replacen("/1\n", "/2\n", 1)).unwrap();
    assert!(!openssl_says(&altered, &lines[1], folder.path()).stdout.contains("Verified OK"));

    // A kit that it signs holds by its own script, which has no library.
    let kit = folder.path().join("kit");
    let evidence = world.evidence().unwrap();
    let found = evidence.query("SELECT session_id FROM events ORDER BY seq DESC").unwrap();
    let session = found[0]["session_id"].as_str().unwrap();
    let mut export = world.daemon.cli();
    export.args(["archive", "export", "kit", "--session", session, "--out"]).arg(&kit);
    run(export.arg("--archive").arg(evidence.archive()), 120).unwrap().ok().unwrap();
    let check = || run(Command::new("python3").arg(kit.join("verify.py")).arg(&kit), 60).unwrap();
    check().ok().unwrap();
    let manifest = kit.join("manifest.note");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replacen("evidence-kit", "evidence-kid", 1)).unwrap();
    assert!(check().ok().is_err());
    // It is found again by a daemon that starts.
    world.daemon.stop().unwrap();
    world.daemon.restart().unwrap();
    world.read().unwrap();
    seal(&world).ok().unwrap();
    verify(&world).ok().unwrap();

    // It has no resource manager and holds three objects at once: keys are replaced and destroyed in it all the same.
    let ask = |arguments: &[&str]| {
        let mut archive = world.daemon.cli();
        run(archive.arg("archive").args(arguments), 60).unwrap().ok().unwrap()
    };
    for replaced in 3..=5 {
        ask(&["rotate-key"]);
        assert_eq!(public(&world).len(), replaced);
        world.read().unwrap();
        seal(&world).ok().unwrap();
    }
    let newest = public(&world).pop().unwrap();
    let said = openssl_says(&checkpoint(&world), &newest, folder.path());
    assert!(said.ok().unwrap().contains("Verified OK"));
    let destroyed = ask(&["destroy-keys", "checkpoints", "checkpoints-2", "checkpoints-3"]);
    assert_eq!(destroyed.lines().count(), 3, "{destroyed}");
    let of = |half: &str| ("checkpoints-4".to_owned(), half.to_owned());
    world.daemon.stop().unwrap();
    assert_eq!(halves(&token), [of("Private"), of("Public")]);
    world.daemon.restart().unwrap();
    world.read().unwrap();
    seal(&world).ok().unwrap();
    verify(&world).ok().unwrap();
}
