//! The authority's files, and what OpenSSL says of what it signs.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is the test's failure")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use ca::{Authority, CERTIFICATE_FILE, CaError, KEY_FILE, Name, Permits, Request};
use tempfile::TempDir;

fn request(permits: &[&str]) -> Request {
    let permits = permits.iter().map(|text| text.parse().unwrap()).collect();
    Request { node: "db-host-1".into(), permits: Permits::Only(permits), days: 30, token: None }
}

#[expect(clippy::disallowed_methods, reason = "OpenSSL looks at the real clock too")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn names(names: &[&str]) -> Vec<Name> {
    names.iter().map(|name| Name::new(name)).collect()
}

/// Whether OpenSSL takes the leaf for a server of this name.
fn openssl_accepts(dir: &Path, leaf: &ca::Leaf, kind: &str, name: &str) -> bool {
    let path = dir.join("leaf.der");
    fs::write(&path, &leaf.certificate).unwrap();
    let output = Command::new("openssl")
        .args(["verify", "-purpose", "sslserver", "-CAfile"])
        .arg(dir.join(CERTIFICATE_FILE))
        .args([kind, name])
        .arg(path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("unable to load"), "{said}");
    output.status.success()
}

#[test]
fn openssl_takes_a_leaf_for_its_names_and_no_others() {
    let dir = TempDir::new().unwrap();
    let now = now();
    let asked = request(&["bank.example", "10.0.0.0/8"]);
    let authority = Authority::create(dir.path(), &asked, now).unwrap();
    let leaf = authority.mint(&names(&["db.bank.example", "10.1.2.3"]), now).unwrap();
    let accepts = |kind, name| openssl_accepts(dir.path(), &leaf, kind, name);
    assert!(accepts("-verify_hostname", "db.bank.example"));
    assert!(accepts("-verify_ip", "10.1.2.3"));
    assert!(!accepts("-verify_hostname", "other.bank.example"));
    assert!(!accepts("-verify_ip", "10.1.2.4"));
    assert!(leaf.is_fresh(now));
    assert!(!leaf.is_fresh(now + Duration::from_hours(25)));
}

#[test]
fn the_constraints_are_in_the_certificate_for_all_to_see() {
    let dir = TempDir::new().unwrap();
    let now = now();
    // One of our own making without them signs what the constrained one may not.
    for (permits, dns, ip) in [(&["bank.example"][..], true, false), (&["10.0.0.0/8"], false, true)]
    {
        let here = dir.path().join(permits[0].replace('/', "-"));
        let authority = Authority::create(&here, &request(permits), now).unwrap();
        assert_eq!(*authority.permits(), request(permits).permits);
        let mut minted = Vec::new();
        for (name, allowed) in [("db.bank.example", dns), ("10.1.2.3", ip)] {
            let leaf = authority.mint(&names(&[name]), now);
            assert_eq!(leaf.is_ok(), allowed, "{name}");
            minted.extend(leaf.ok());
        }
        let [leaf] = &minted[..] else { panic!("one of the two") };
        let (kind, name) =
            if dns { ("-verify_hostname", "db.bank.example") } else { ("-verify_ip", "10.1.2.3") };
        assert!(openssl_accepts(&here, leaf, kind, name));
        let forged = forged(&here, if dns { "IP:10.1.2.3" } else { "DNS:db.bank.example" });
        assert!(!forged, "who has the key is held to its names as well");
        assert!(self::forged(&here, if dns { "DNS:db.bank.example" } else { "IP:10.1.2.3" }));
    }
}

/// Whether OpenSSL takes what OpenSSL signs with the authority's key for this name.
fn forged(dir: &Path, san: &str) -> bool {
    let run = |arguments: &str| {
        let arguments = arguments.replace("DIR", dir.to_str().unwrap());
        let done = Command::new("openssl").args(arguments.split(' ')).output().unwrap();
        done.status.success()
    };
    fs::write(dir.join("ext"), format!("subjectAltName={san}\n")).unwrap();
    let asked = "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x \
                 -keyout DIR/f.key -out DIR/f.csr";
    let signed = "x509 -req -in DIR/f.csr -CA DIR/ca.crt -CAkey DIR/ca.key -CAcreateserial \
                  -days 1 -extfile DIR/ext -out DIR/f.crt";
    assert!(run(asked) && run(signed));
    run("verify -CAfile DIR/ca.crt DIR/f.crt")
}

#[test]
fn the_key_is_roots_alone_and_is_never_replaced() {
    let dir = TempDir::new().unwrap();
    let now = now();
    assert!(matches!(Authority::load(dir.path()), Err(CaError::Absent(_))));
    let authority = Authority::create(dir.path(), &request(&["bank.example"]), now).unwrap();
    let fingerprint = authority.fingerprint();
    let again = Authority::create(dir.path(), &request(&["bank.example"]), now);
    assert!(matches!(again, Err(CaError::Exists(_))));
    assert_eq!(Authority::load(dir.path()).unwrap().fingerprint(), fingerprint);

    let key = dir.path().join(KEY_FILE);
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(Authority::load(dir.path()), Err(CaError::Open { .. })));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    let other = TempDir::new().unwrap();
    Authority::create(other.path(), &request(&["bank.example"]), now).unwrap();
    fs::copy(other.path().join(KEY_FILE), &key).unwrap();
    assert!(matches!(Authority::load(dir.path()), Err(CaError::Malformed { .. })));
}

#[test]
fn an_expired_authority_vouches_for_nobody() {
    let dir = TempDir::new().unwrap();
    let now = now();
    let authority = Authority::create(dir.path(), &request(&["bank.example"]), now).unwrap();
    let later = now + Duration::from_hours(31 * 24);
    let minted = authority.mint(&names(&["db.bank.example"]), later);
    assert!(matches!(minted, Err(CaError::Expired)), "{minted:?}");
}
