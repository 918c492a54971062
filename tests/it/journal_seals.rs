//! The journal's forward-secure seals, with the daemon: audit opens the secret once, and checks what no checkpoint covers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use integration::process::{Output, run, wait_until};
use integration::{World, paths};

fn verify(world: &World, secret: &Path) -> Output {
    run(world.daemon.verifier().arg("--seal-secret").arg(secret), 60).unwrap()
}

/// Waits until a seal covers all that is committed.
fn all_sealed(world: &World) {
    wait_until("the journal is sealed", 30, || {
        let status = world.daemon.status()?;
        Ok(status["journal_seal"]["lsn"] == status["journal_durable_lsn"])
    })
    .unwrap();
}

fn keys(world: &World, end: &str) -> PathBuf {
    let node = world.daemon.status().unwrap()["node"].as_str().unwrap().to_owned();
    world.daemon.archive().parent().unwrap().join(format!("keys/{node}.{end}"))
}

#[test]
fn audit_checks_what_no_checkpoint_covers_with_a_secret_that_the_host_does_not_have() {
    let folder = tempfile::tempdir().unwrap();
    let (audit, secret) = (folder.path().join("audit"), folder.path().join("secret"));
    let vestibule = || Command::new(paths::programs().unwrap().join("vestibule"));
    run(vestibule().args(["recordings", "keygen", "--out"]).arg(&audit), 30).unwrap().ok().unwrap();
    let (public, private) = (audit.with_extension("pub"), audit.with_extension("key"));
    let rule = format!(
        "[journal]\nreserve_bytes = 0\n[journal.seal]\nrecipients = [\"{}\"]\ninterval_ms = 100\n",
        public.display()
    );
    let mut world = World::start_with(&rule).unwrap();
    world.read().unwrap();
    run(world.daemon.cli().args(["archive", "seal"]), 60).unwrap().ok().unwrap();
    let mut open = vestibule();
    open.args(["archive", "seal-secret", "--from"]).arg(keys(&world, "seal-secret"));
    open.arg("--key").arg(&private).arg("--out").arg(&secret);
    let said = run(&mut open, 30).unwrap().ok().unwrap();
    assert!(said.contains("keep it off the host"), "{said}");
    assert!(!run(&mut open, 30).unwrap().stderr.is_empty(), "it is not written over");

    // Rows behind the checkpoint are sealed before long, by themselves.
    world.read().unwrap();
    all_sealed(&world);
    // The daemon may hear of the session's end only now: then its frames are sealed next.
    wait_until("seals cover the session's end as well", 30, || {
        let said = verify(&world, &secret).ok()?;
        Ok(said.contains("seals hold") && said.contains("; 0 frames are behind it"))
    })
    .unwrap();
    // Killed at any time, it goes on without a seal lost or a key used twice.
    for _ in 0..5 {
        world.read().unwrap();
        world.daemon.kill();
        world.daemon.restart().unwrap();
    }
    world.read().unwrap();
    all_sealed(&world);
    verify(&world, &secret).ok().unwrap();

    // Cut off behind the checkpoint, as if the machine had crashed earlier: the key that is kept knows better.
    world.daemon.stop().unwrap();
    let whole = folder.path().join("whole");
    run(Command::new("cp").arg("-a").arg(world.daemon.journal()).arg(&whole), 60)
        .unwrap()
        .ok()
        .unwrap();
    let mut segments: Vec<_> =
        fs::read_dir(world.daemon.journal()).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|end| end == "vjl"));
    segments.sort();
    assert!(segments.len() > 3);
    fs::remove_file(segments.pop().unwrap()).unwrap();
    let refused = world.daemon.another().unwrap();
    assert!(refused.stderr.contains("lacks the seals"), "{refused:?}");
    world.daemon.restart_saying(&["--accept-loss"]).unwrap();
    let found = verify(&world, &secret);
    assert!(
        found.code == Some(14) && found.stdout.contains("are missing behind frame"),
        "{found:?}"
    );
    // With another secret nothing holds.
    let other = folder.path().join("other");
    fs::write(&other, format!("vestibule-seal-secret-1 {}\n", "07".repeat(32))).unwrap();
    let found = verify(&world, &other);
    assert!(found.stdout.contains("no seal of this secret"), "{found:?}");
}
