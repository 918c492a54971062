//! A container of podman's as an agent: found by its label, attributed with its id.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use integration::process::{run, wait_until};
use integration::world::READER;
use integration::{World, bank};
use tempfile::TempDir;

/// Podman with a store of its own and an image that has nothing: the programs are the host's.
struct Podman {
    folder: TempDir,
}

const IMAGE: &str = "localhost/vestibule-it:1";

impl Podman {
    fn new() -> Self {
        let podman = Self { folder: tempfile::tempdir().unwrap() };
        let root = podman.folder.path().join("image");
        for directory in ["usr", "etc", "proc", "sys", "dev", "tmp", "run"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            symlink(Path::new("usr").join(link), root.join(link)).unwrap();
        }
        let tar = podman.folder.path().join("image.tar");
        let mut pack = Command::new("tar");
        run(pack.arg("-C").arg(&root).arg("-cf").arg(&tar).arg("."), 60).unwrap().ok().unwrap();
        run(podman.command().arg("import").arg(&tar).arg(IMAGE), 60).unwrap().ok().unwrap();
        podman
    }

    /// The command and its options: own folders, no service manager, and a runtime that takes hosts
    /// with both versions of cgroups.
    fn words(&self) -> Vec<String> {
        let folder = |name: &str| self.folder.path().join(name).to_string_lossy().into_owned();
        let mut words: Vec<String> = vec!["podman".into()];
        for (option, value) in [
            ("--root", folder("store")),
            ("--runroot", folder("run")),
            ("--tmpdir", folder("tmp")),
            ("--storage-driver", "vfs".into()),
            ("--cgroup-manager", "cgroupfs".into()),
            ("--events-backend", "none".into()),
            ("--runtime", "runc".into()),
        ] {
            words.extend([option.to_owned(), value]);
        }
        words
    }

    fn command(&self) -> Command {
        let words = self.words();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        run(self.command().args(["rm", "--all", "--force", "--time", "0"]), 60).ok();
        run(self.command().args(["rmi", "--all", "--force"]), 60).ok();
    }
}

#[test]
fn a_containers_psql_is_proxied_and_attributed_with_the_containers_id() {
    let podman = Podman::new();
    let label = format!("vestibule.it={}", std::process::id());
    let rule = format!(
        "\n[engines]\npodman = {:?}\n\
         [[enroll]]\nagent = '{READER}'\ncontainer = {{ label = '{label}', image = 'localhost/*' }}\n",
        podman.words()
    );
    let world = World::start_with(&rule).unwrap();
    let mut start = podman.command();
    start.args(["run", "--detach", "--name", "agent", "--label", &label, "--network", "host"]);
    start.args(["--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"]);
    start.args(["--volume", "/usr:/usr:ro", "--volume", "/etc:/etc:ro", "--env", "LC_ALL=C.UTF-8"]);
    for (name, value) in [
        ("PGHOST", "127.0.0.1"),
        ("PGPORT", &world.bank.port().to_string()),
        ("PGDATABASE", bank::DATABASE),
        ("PGUSER", bank::ROLE),
        ("PGPASSWORD", bank::PASSWORD),
    ] {
        start.args(["--env", &format!("{name}={value}")]);
    }
    let id = run(start.args([IMAGE, "sleep", "600"]), 60).unwrap().ok().unwrap();
    wait_until("the container is enrolled", 60, || {
        Ok(world.daemon.status()?["agents"].as_array().is_some_and(|all| all.len() == 1))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", world.daemon.log()));
    let sql = "SELECT id FROM customers WHERE id = 9";
    let mut psql = podman.command();
    let seen = run(psql.args(["exec", "agent", "psql", "-XAtc", sql]), 60).unwrap();
    assert_eq!(
        seen.clone().ok().unwrap_or_else(|e| panic!("{e:#}\n{}", world.daemon.log())),
        "9\n"
    );
    assert_eq!(world.daemon.count("sessions_total").unwrap(), 1);
    let sessions = world.evidence().unwrap().duckdb("SELECT * FROM sessions").unwrap();
    assert_eq!(sessions[0]["agent_id"], READER);
    assert_eq!(sessions[0]["container_id"], id.trim());
    // When it ends, so does the agent.
    run(podman.command().args(["rm", "--force", "--time", "0", "agent"]), 60)
        .unwrap()
        .ok()
        .unwrap();
    wait_until("the agent has ended", 60, || {
        Ok(world.daemon.status()?["agents"].as_array().is_some_and(Vec::is_empty))
    })
    .unwrap();
}
