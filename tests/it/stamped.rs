//! Time stamps (RFC 3161) on checkpoints, by an authority of OpenSSL's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use integration::process::{Output, run, wait_until};
use integration::tsa::Tsa;
use integration::{World, paths};

fn seal(world: &World) {
    run(world.daemon.cli().args(["archive", "seal"]), 60).unwrap().ok().unwrap();
}

/// Time stamps in the archive, and the checkpoints they are of.
fn stamps(archive: &Path) -> Vec<(PathBuf, PathBuf)> {
    let mut find = Command::new("find");
    find.arg(archive).args(["-path", "*/stamped/*", "-type", "f"]);
    let found = run(&mut find, 10).unwrap().ok().unwrap();
    let mut found: Vec<PathBuf> = found.lines().map(PathBuf::from).collect();
    found.sort();
    let note = |stamp: &Path| {
        let log = stamp.parent().unwrap().parent().unwrap();
        log.join("checkpoints").join(stamp.file_name().unwrap())
    };
    found.into_iter().map(|stamp| (stamp.clone(), note(&stamp))).collect()
}

fn verify(archive: &Path, more: &[&str]) -> Output {
    let mut verify = Command::new(paths::programs().unwrap().join("vestibule-verify"));
    verify.arg("--archive").arg(archive).args(more);
    run(&mut verify, 60).unwrap()
}

#[test]
fn checkpoints_are_stamped_once_the_authority_can_be_reached_and_stamps_are_verified() {
    let mut world = World::start().unwrap();
    let tsa = Tsa::start().unwrap();
    tsa.close(true).unwrap();
    let configuration = format!("[archive.timestamps]\nurl = \"{}\"\ninterval_s = 1\n", tsa.url());
    world.daemon.restart_with(&configuration).unwrap();
    world.reader().psql("SELECT id FROM customers WHERE id = 101").unwrap().ok().unwrap();
    seal(&world);
    let archive = world.daemon.archive();
    // Whatever the authority does, recording and sealing go on.
    assert_eq!(stamps(&archive), Vec::new());
    tsa.close(false).unwrap();
    wait_until("the checkpoint is stamped", 60, || Ok(!stamps(&archive).is_empty())).unwrap();
    let (stamp, checkpoint) = stamps(&archive).remove(0);
    // OpenSSL alone says so, from the files as they lie.
    let mut openssl = Command::new("openssl");
    openssl.args(["ts", "-verify", "-in"]).arg(&stamp).arg("-data").arg(&checkpoint);
    let said = run(openssl.arg("-CAfile").arg(tsa.authority()), 30).unwrap().ok().unwrap();
    assert!(said.contains("Verification: OK"), "{said}");
    // A copy, as an examiner has it.
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("archive");
    run(Command::new("cp").arg("-a").arg(&archive).arg(&copy), 60).unwrap().ok().unwrap();
    let authority = tsa.authority();
    let authority = authority.to_str().unwrap();
    let told = verify(&copy, &[]).ok().unwrap();
    assert!(told.contains("who made them was not verified (--tsa-ca)"), "{told}");
    let told = verify(&copy, &["--tsa-ca", authority, "--level", "3"]).ok().unwrap();
    assert!(told.contains("time-stamped: the records up to"), "{told}");
    // Another authority.
    let other = Tsa::start().unwrap();
    let refused = verify(&copy, &["--tsa-ca", other.authority().to_str().unwrap()]);
    assert_eq!(refused.code, Some(13), "{refused:?}");
    assert!(refused.stdout.contains("time stamp is not by that authority"), "{refused:?}");
    // A stamp of something else, a changed one, and none.
    let (stamp, checkpoint) = stamps(&copy).remove(0);
    let whole = fs::read(&stamp).unwrap();
    let mut query = Command::new("openssl");
    query.args(["ts", "-query", "-sha256", "-cert", "-out"]).arg(folder.path().join("q"));
    run(query.arg("-data").arg(authority), 30).unwrap().ok().unwrap();
    let mut curl = Command::new("curl");
    curl.args(["-sf", "-H", "content-type: application/timestamp-query", "--data-binary"]);
    curl.arg(format!("@{}", folder.path().join("q").display()))
        .arg("-o")
        .arg(&stamp)
        .arg(tsa.url());
    run(&mut curl, 30).unwrap().ok().unwrap();
    let refused = verify(&copy, &[]);
    assert_eq!(refused.code, Some(13), "{refused:?}");
    assert!(refused.stdout.contains("of other bytes"), "{refused:?}");
    let mut changed = whole.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    fs::write(&stamp, changed).unwrap();
    assert_eq!(verify(&copy, &["--tsa-ca", authority]).code, Some(13));
    fs::write(&stamp, whole).unwrap();
    assert_eq!(verify(&copy, &["--tsa-ca", authority]).code, Some(0));
    fs::remove_file(&stamp).unwrap();
    for (stamp, _) in stamps(&copy) {
        fs::remove_file(stamp).unwrap();
    }
    let missing = verify(&copy, &["--tsa-ca", authority]);
    assert_eq!(missing.code, Some(13), "{missing:?}");
    assert!(checkpoint.exists());
}
