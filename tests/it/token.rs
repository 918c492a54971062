//! The host's authority with its key in a token: SoftHSM, by PKCS#11.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use integration::bank::ROLE;
use integration::certificates::Certificates;
use integration::process::run;
use integration::world::READER;
use integration::{Agent, Daemon, Postgres, Supervisor, paths};

use crate::tls::{NAMED, NAMES, SQL, VERIFIED};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

#[test]
fn the_authoritys_key_stays_in_its_token() {
    let certificates = Certificates::make(NAMES).unwrap();
    let (pin, tokens) = (certificates.path("pin"), certificates.path("tokens"));
    let configuration = certificates.path("softhsm2.conf");
    fs::create_dir(&tokens).unwrap();
    fs::write(&configuration, format!("directories.tokendir = {}\n", tokens.display())).unwrap();
    let softhsm =
        |command: &mut Command| run(command.env("SOFTHSM2_CONF", &configuration), 30).unwrap();
    let mut make = Command::new("softhsm2-util");
    make.args(["--init-token", "--free", "--label", "the bank's", "--pin", "81726354"]);
    softhsm(make.args(["--so-pin", "45362718"])).ok().unwrap();
    let write_pin = |text: &str| {
        fs::write(&pin, text).unwrap();
        fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let uri = format!(
        "pkcs11:token=the%20bank%27s;object=authority?module-path={MODULE}&pin-source={}",
        pin.display()
    );
    let authority = |arguments: &[&str]| {
        let mut command = Command::new(paths::programs().unwrap().join("vestibule"));
        command.arg("ca").args(arguments).arg("--dir").arg(certificates.path("host"));
        softhsm(&mut command)
    };
    let init = ["init", "--permit", "127.0.0.0/8", "--permit", "localhost", "--pkcs11", &uri];
    write_pin("11111111");
    let refused = authority(&init);
    assert!(refused.stderr.contains("logging in to the token"), "{refused:?}");
    write_pin("81726354\n");
    authority(&init).ok().unwrap();
    assert!(!certificates.path("host/ca.key").exists());
    let mode = fs::metadata(certificates.path("host/ca.uri")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // It holds what it signs: OpenSSL says so of the authority itself, libpq of what agents are shown.
    let shown = authority(&["show"]).ok().unwrap();
    assert!(shown.contains("vestibule on"), "{shown}");
    let verified = certificates.openssl("verify -CAfile host/ca.crt host/ca.crt").unwrap();
    assert!(verified.contains("OK"), "{verified}");

    let settings = certificates.server_settings();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let bank = Postgres::with_settings(&settings).unwrap();
    let rest = certificates.daemon_settings(VERIFIED);
    // Without its token the authority is not there, and the daemon does not start as if it were.
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(Daemon::start_with(Supervisor::None, bank.port(), 1, &[], &rest).is_err());
    fs::set_permissions(&pin, fs::Permissions::from_mode(0o600)).unwrap();
    let environment = [("SOFTHSM2_CONF", configuration.as_path())];
    let daemon =
        Daemon::start_among(Supervisor::None, &environment, bank.port(), 1, &rest).unwrap();
    let agent = Agent::new(&daemon, READER, ROLE, bank.port());
    let mut psql = agent.command("psql");
    let parameters = format!("{NAMED} sslmode=verify-full");
    let seen = run(psql.args(["-XAt", "-c", SQL, &parameters]), 60).unwrap().ok().unwrap();
    assert_eq!(seen, bank.sql(SQL).unwrap());
    assert!(!daemon.log().contains("81726354"));
}
