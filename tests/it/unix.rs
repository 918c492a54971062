//! AF_UNIX from the agent to the record. (What the kernel makes of each call: `redirect`'s tests.)

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use integration::process::{run, wait_until};
use integration::world::READER;
use integration::{Daemon, Evidence, Supervisor};
use tempfile::TempDir;

use crate::restart::Bank;
use crate::talk::{Talk, enrolled, run_in};

/// For each number on standard input, connects to the socket of that number.
const CLIENT: &str = "
import socket, sys
print('ready', flush=True)
for line in sys.stdin:
    try:
        socket.socket(socket.AF_UNIX).connect(sys.argv[int(line)])
        print('connected', flush=True)
    except OSError as e:
        print(type(e).__name__, flush=True)
";

const REFUSED: &str = "ConnectionRefusedError";

/// Two sockets that are open to everybody, in a directory that is root's alone.
fn services() -> (TempDir, [UnixListener; 2]) {
    let folder = tempfile::tempdir_in("/run").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let services = ["listed", "other"].map(|name| {
        let path = folder.path().join(name);
        let service = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        service
    });
    (folder, services)
}

#[test]
fn agents_reach_listed_unix_sockets_alone_whatever_becomes_of_the_daemon() {
    let (folder, _services) = services();
    let [listed, other] = ["listed", "other"].map(|name| folder.path().join(name));
    let (listed, other) = (listed.to_str().unwrap(), other.to_str().unwrap());
    let bank = Bank::start();
    // Where the guard is armed it decides, by inodes.
    let kernel = format!("guard = 'off'\nallow_unix = ['{listed}']\n");
    let mut daemon = Daemon::start_with(Supervisor::None, bank.port, 1, &[], &kernel).unwrap();
    let agent = enrolled(&daemon);
    let mut client = Talk::start(run_in(&agent, "", CLIENT, &[listed, other]));
    assert_eq!((&*client.asks_for("1"), &*client.asks_for("2")), ("connected", REFUSED));
    daemon.kill();
    assert_eq!((&*client.asks_for("1"), &*client.asks_for("2")), ("connected", REFUSED));
    daemon.restart().unwrap();
    assert_eq!((&*client.asks_for("1"), &*client.asks_for("2")), ("connected", REFUSED));
    let recorded = format!(
        "SELECT count(*) FROM control WHERE kind = 'kernel.refused' \
         AND json_extract_string(detail, '$.reason') = 'unix' \
         AND json_extract_string(detail, '$.agent') = '{READER}' \
         AND json_extract_string(detail, '$.unix') = '{other}'"
    );
    let told = || Ok(Evidence::seal(&daemon)?.count(&recorded)? == 3);
    wait_until("it is recorded", 20, told).unwrap();
    run(&mut daemon.disarm("the agents may"), 60).unwrap().ok().unwrap();
    // The kernel takes a link off some time after its last name.
    wait_until("the agent is free", 10, || Ok(client.asks_for("2") == "connected")).unwrap();
}
