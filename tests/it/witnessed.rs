//! A daemon and its witness: cosignatures beside the checkpoints, a key that is replaced, an archive that is brought
//! back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use integration::process::{run, wait_until};
use integration::{World, paths};

/// The witness's place: its own port, as a restarted one must be found again.
struct Witness {
    dir: tempfile::TempDir,
    address: String,
    child: Child,
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Witness {
    fn start(logs: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let child = Self::spawn(dir.path(), &address, logs);
        Self { dir, address, child }
    }

    fn spawn(dir: &Path, address: &str, logs: &str) -> Child {
        fs::write(dir.join("logs"), logs).unwrap();
        Command::new(paths::programs().unwrap().join("vestibule-witness"))
            .args(["--listen", address, "--name", "audit.example/w1"])
            .arg("--key")
            .arg(dir.join("key"))
            .arg("--logs")
            .arg(dir.join("logs"))
            .arg("--state")
            .arg(dir.join("state"))
            .stderr(Stdio::from(fs::File::create(dir.join("said")).unwrap()))
            .spawn()
            .unwrap()
    }

    fn restart(&mut self, logs: &str) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::spawn(self.dir.path(), &self.address, logs);
    }

    /// A policy that asks for it.
    fn policy(&self) -> PathBuf {
        let said = self.dir.path().join("said");
        let key = || {
            let said = fs::read_to_string(&said).unwrap();
            said.trim().split_once(", key ").map(|(_, key)| key.to_owned())
        };
        wait_until("the witness listens", 20, || Ok(key().is_some())).unwrap();
        let path = self.dir.path().join("policy");
        let text = format!("witness w1 {} http://{}\nquorum w1\n", key().unwrap(), self.address);
        fs::write(&path, text).unwrap();
        path
    }
}

/// The log's name and the lines of its keys.
fn log(world: &World) -> (String, Vec<String>) {
    let node = world.daemon.status().unwrap()["node"].as_str().unwrap().to_owned();
    let keys = world.daemon.archive().parent().unwrap().join(format!("keys/{node}.vkey"));
    let lines = fs::read_to_string(keys).unwrap();
    (format!("vestibule/node/{node}/1"), lines.lines().map(str::to_owned).collect())
}

fn logs(world: &World) -> String {
    let (origin, keys) = log(world);
    let lines: Vec<String> = keys.iter().map(|key| format!("{origin} {key}\n")).collect();
    lines.concat()
}

fn seal(world: &World) {
    run(world.daemon.cli().args(["archive", "seal"]), 60).unwrap().ok().unwrap();
}

fn standing(world: &World) -> serde_json::Value {
    world.daemon.status().unwrap()["witnesses"][0].clone()
}

#[track_caller]
fn cosigned(world: &World) {
    let is_cosigned = || {
        let standing = standing(world);
        Ok(standing["rows_behind"] == 0
            && standing["size"].as_u64().is_some()
            && standing["error"].is_null())
    };
    wait_until("the witness cosigned", 40, is_cosigned).unwrap();
}

#[test]
fn a_witness_follows_the_log_through_a_replaced_key_and_finds_it_brought_back() {
    let mut world = World::start().unwrap();
    world.reader().psql("SELECT id FROM customers WHERE id = 101").unwrap().ok().unwrap();
    let mut witness = Witness::start(&logs(&world));
    let policy = witness.policy();
    let configuration = format!("[archive]\nwitnesses = \"{}\"\n", policy.display());
    world.daemon.restart_with(&configuration).unwrap();
    seal(&world);
    cosigned(&world);
    let earlier = tempfile::tempdir().unwrap();
    let copy = earlier.path().join("archive");
    run(Command::new("cp").arg("-r").arg(world.daemon.archive()).arg(&copy), 30)
        .unwrap()
        .ok()
        .unwrap();
    // It goes away and comes back: nothing waits for it, and it catches up.
    witness.child.kill().unwrap();
    witness.child.wait().unwrap();
    world.reader().psql("SELECT id FROM customers WHERE id = 102").unwrap().ok().unwrap();
    seal(&world);
    wait_until("it is missed", 20, || Ok(standing(&world)["error"].is_string())).unwrap();
    witness.restart(&logs(&world));
    cosigned(&world);
    // Another key: refused until the witness is told of it.
    run(world.daemon.cli().args(["archive", "rotate-key"]), 60).unwrap().ok().unwrap();
    assert_eq!(log(&world).1.len(), 2);
    let refused = || Ok(standing(&world)["error"].as_str().is_some_and(|e| e.contains("403")));
    wait_until("the new key is refused", 20, refused).unwrap();
    witness.restart(&logs(&world));
    cosigned(&world);
    let verify = |archive: &Path| {
        let mut verify = Command::new(paths::programs().unwrap().join("vestibule-verify"));
        verify.args(["--level", "3", "--ask-witnesses", "--policy"]).arg(&policy);
        run(verify.arg("--archive").arg(archive), 60).unwrap()
    };
    let sound = verify(&world.daemon.archive());
    assert_eq!(sound.code, Some(0), "{}{}", sound.stdout, sound.stderr);
    assert!(sound.stdout.contains("the key was replaced by record"), "{}", sound.stdout);
    let back = verify(&copy);
    assert_eq!(back.code, Some(13), "{}{}", back.stdout, back.stderr);
    assert!(back.stdout.contains("rolled back: witness w1"), "{}", back.stdout);
    let evidence = world.evidence().unwrap();
    let kinds = evidence.duckdb("SELECT kind, count(*) AS n FROM control GROUP BY kind").unwrap();
    for kind in ["key.rotated", "witness.refused"] {
        assert!(kinds.iter().any(|row| row["kind"] == kind), "{kind}: {kinds:?}");
    }
}
