//! Where credentials' secrets come from, besides files: the daemon's environment and a vault.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use integration::certificates::Certificates;
use integration::process::{run, wait_until};
use integration::world::READER;
use integration::{Agent, Daemon, Evidence, Postgres, Supervisor, Vault, bank};

/// Who one is, in a statement that policy reads.
const WHO: &str = "SELECT current_user FROM customers WHERE id = 1";

fn role(password: &str) -> String {
    let password = password.replace('\'', "''");
    format!("CREATE ROLE injected LOGIN IN ROLE app PASSWORD '{password}'")
}

fn psql(daemon: &Daemon, bank: &Postgres) -> integration::Output {
    let agent = Agent::new(daemon, READER, bank::ROLE, bank.port());
    let mut psql = agent.command("psql");
    run(psql.args(["-XAtw", "-c", WHO]).env_remove("PGPASSWORD"), 60).unwrap()
}

fn gets_in(daemon: &Daemon, bank: &Postgres) -> bool {
    psql(daemon, bank).stdout.trim() == "injected"
}

#[test]
fn a_secret_of_the_environment_is_in_it_no_more() {
    const SECRET: &str = "in-the-environment-of-the-daemon";
    let configuration = "\n[[credential]]\ntarget = \"bank\"\naccount = \"injected\"\nsecret_env = \"BANK_SECRET\"\n";
    let bank = Postgres::start().unwrap();
    bank.sql(&role(SECRET)).unwrap();
    let environment = [("BANK_SECRET", Path::new(SECRET))];
    let none = Supervisor::None;
    let mut daemon =
        Daemon::start_among(none, &environment, bank.port(), 2, configuration).unwrap();
    for _ in 0..2 {
        assert!(gets_in(&daemon, &bank), "{}", daemon.log());
        let pid = daemon.pid().unwrap();
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap();
        let environ = String::from_utf8_lossy(&environ).into_owned();
        assert!(!environ.contains(SECRET) && !environ.contains("BANK_SECRET="), "{environ}");
        assert!(environ.contains("PATH="), "the rest of it is there");
        daemon.stop().unwrap();
        daemon.restart().unwrap();
    }
    assert!(!daemon.log().contains(SECRET));
    drop(daemon);
    let without = Daemon::start_with(Supervisor::None, bank.port(), 2, &[], configuration);
    let error = format!("{:#}", without.unwrap_err());
    assert!(error.contains("the variable BANK_SECRET was not in"), "{error}");
}

#[test]
fn a_supervisors_sockets_survive_taking_secrets_out_of_the_environment() {
    const SECRET: &str = "of-a-supervised-daemon";
    let configuration = "\n[[credential]]\ntarget = \"bank\"\naccount = \"injected\"\nsecret_env = \"BANK_SECRET\"\n";
    let bank = Postgres::start().unwrap();
    bank.sql(&role(SECRET)).unwrap();
    let environment = [("BANK_SECRET", Path::new(SECRET))];
    let keeps = Supervisor::Keeps;
    let mut daemon =
        Daemon::start_among(keeps, &environment, bank.port(), 2, configuration).unwrap();
    assert!(gets_in(&daemon, &bank), "{}", daemon.log());
    daemon.kill_under_supervisor().unwrap();
    assert!(gets_in(&daemon, &bank), "{}", daemon.log());
    let pid = daemon.count("pid").unwrap();
    let environ = fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert!(!String::from_utf8_lossy(&environ).contains(SECRET));
    // It got its sockets back, and is told about as ready: the process is the one that was started.
    let told = daemon.supervision();
    let started = told.lines().rfind(|line| line.contains(&format!("started {pid} "))).unwrap();
    assert!(!started.contains("fds=0 "), "{told}");
    assert_eq!(told.matches("ready").count(), 2, "{told}");
    let stored = told.lines().filter(|line| line.contains(" stored ")).count();
    let again = told.split("ended").nth(1).unwrap_or_default().matches(" stored ").count();
    assert!(stored > 0 && again == 0, "no socket was made anew: {told}");
}

/// A bank, a vault and a daemon that reads its secret there.
struct Vaulted {
    daemon: Daemon,
    bank: Postgres,
    vault: Vault,
    certificates: Certificates,
}

impl Vaulted {
    fn start(secret: &str, proof: impl Fn(&Vault, &Certificates) -> String) -> Self {
        let certificates = Certificates::make("DNS:localhost").unwrap();
        let vault = Vault::start(&certificates).unwrap();
        vault.put("bank/app", "password", secret).unwrap();
        let bank = Postgres::start().unwrap();
        bank.sql(&role(secret)).unwrap();
        let configuration = format!(
            "\n[[credential]]\ntarget = \"bank\"\naccount = \"injected\"\n\
             secret_vault = {{ path = \"bank/app\" }}\n\
             [vault]\naddress = \"{}\"\nca = \"{}\"\ncache_s = 2\n{}\n",
            vault.address(),
            certificates.path("bank.crt").display(),
            proof(&vault, &certificates),
        );
        let start = Daemon::start_with(Supervisor::None, bank.port(), 2, &[], &configuration);
        Self { daemon: start.unwrap(), bank, vault, certificates }
    }

    fn gets_in(&self) -> bool {
        gets_in(&self.daemon, &self.bank)
    }
}

/// A file that is root's alone.
fn private(certificates: &Certificates, name: &str, text: &str) -> String {
    let path = certificates.path(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

fn by_token(vault: &Vault, certificates: &Certificates) -> String {
    let file = private(certificates, "token", &vault.token().unwrap());
    format!("token_file = \"{file}\"")
}

#[test]
fn a_secret_of_a_vault_is_read_at_use_and_rotates() {
    let world = Vaulted::start("the first of the vault's", by_token);
    assert!(world.gets_in(), "{}", world.daemon.log());
    // Another version: logins go by it once the old one's time is over.
    world.vault.put("bank/app", "password", "the second of the vault's").unwrap();
    world.bank.sql("ALTER ROLE injected PASSWORD 'the second of the vault''s'").unwrap();
    wait_until("the second version", 10, || Ok(world.gets_in())).unwrap();
    for known in
        ["of the vault's", fs::read_to_string(world.certificates.path("token")).unwrap().trim()]
    {
        assert!(!world.daemon.log().contains(known), "{known}");
    }
    let evidence = Evidence::seal(&world.daemon).unwrap();
    for table in ["events", "sessions", "control", "recordings"] {
        let rows = evidence.duckdb(&format!("FROM {table}")).unwrap();
        assert!(rows.iter().all(|row| !row.to_string().contains("of the vault's")), "{table}");
    }
}

#[test]
fn without_its_vault_nobody_gets_in_once_the_secret_is_old() {
    let mut world = Vaulted::start("a secret that gets old", by_token);
    assert!(world.gets_in(), "{}", world.daemon.log());
    world.vault.stop();
    std::thread::sleep(Duration::from_secs(3));
    let refused = psql(&world.daemon, &world.bank);
    assert!(refused.stderr.contains("can't be used"), "{refused:?}");
    assert!(world.daemon.log().contains("a vault's secret can't be read"));
    let evidence = Evidence::seal(&world.daemon).unwrap();
    let denied = "SELECT count(*) FROM events WHERE kind = 'db.connect' AND status = 'denied' \
                  AND rule_id = 'credential'";
    assert_eq!(evidence.count(denied).unwrap(), 1);
    // A vault that has forgotten all: its new token is in the file, its secret is another.
    world.vault.restart().unwrap();
    let policy = world.certificates.path("again.hcl");
    fs::write(&policy, "path \"secret/data/bank/*\" {\n  capabilities = [\"read\"]\n}\n").unwrap();
    world.vault.bao(&["policy", "write", "bank", &policy.display().to_string()]).unwrap();
    let refused = psql(&world.daemon, &world.bank);
    assert!(refused.stderr.contains("can't be used"), "the old token: {refused:?}");
    private(&world.certificates, "token", &world.vault.token().unwrap());
    let refused = psql(&world.daemon, &world.bank);
    assert!(refused.stderr.contains("can't be used"), "no secret: {refused:?}");
    world.vault.put("bank/app", "username", "a secret that gets old").unwrap();
    let refused = psql(&world.daemon, &world.bank);
    assert!(refused.stderr.contains("can't be used"), "another key: {refused:?}");
    world.vault.put("bank/app", "password", "a secret that gets old").unwrap();
    assert!(world.gets_in(), "{}", world.daemon.log());
    for told in ["no connection", "(403)", "(404)", "no text of this key"] {
        assert!(world.daemon.log().contains(told), "{told}: {}", world.daemon.log());
    }
}

#[test]
fn the_daemon_logs_in_to_a_vault_and_again_when_its_token_is_taken_back() {
    let world = Vaulted::start("behind a role", |vault, certificates| {
        let (role, secret) = vault.role().unwrap();
        let file = private(certificates, "secret-id", &secret);
        format!("role_id = \"{role}\"\nsecret_id_file = \"{file}\"")
    });
    assert!(world.gets_in(), "{}", world.daemon.log());
    world.vault.bao(&["token", "revoke", "-mode=path", "auth/approle"]).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert!(world.gets_in(), "{}", world.daemon.log());
    let secret_id = fs::read_to_string(world.certificates.path("secret-id")).unwrap();
    assert!(!world.daemon.log().contains(&secret_id));
    // What proves it no more.
    private(&world.certificates, "secret-id", "of nobody");
    world.vault.bao(&["token", "revoke", "-mode=path", "auth/approle"]).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let refused = psql(&world.daemon, &world.bank);
    assert!(refused.stderr.contains("can't be used"), "{refused:?}");
    assert!(world.daemon.log().contains("refuses the daemon's login"), "{}", world.daemon.log());
}

#[test]
fn a_vault_with_a_strangers_certificate_gets_no_token() {
    let mut world = Vaulted::start("never sent for", |vault, certificates| {
        let strangers = Certificates::make("DNS:localhost").unwrap();
        let own = fs::read(certificates.path("bank.crt")).unwrap();
        fs::write(certificates.path("own.crt"), own).unwrap();
        fs::copy(strangers.path("bank.crt"), certificates.path("bank.crt")).unwrap();
        by_token(vault, certificates)
    });
    let refused = psql(&world.daemon, &world.bank);
    assert!(refused.stderr.contains("can't be used"), "{refused:?}");
    assert!(world.daemon.log().contains("invalid peer certificate"), "{}", world.daemon.log());
    world.daemon.stop().unwrap();
    fs::copy(world.certificates.path("own.crt"), world.certificates.path("bank.crt")).unwrap();
    world.daemon.restart().unwrap();
    assert!(world.gets_in(), "{}", world.daemon.log());
}
