//! TLS taps: what an agent says through libssl is recorded masked, as observed, and nobody else's.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use integration::World;

/// A TLS connection within one process, over memory: the client tells the server a secret, a card's
/// number and something plain; then something large, twice.
const TALK: &str = "
import ssl, time
a, b = ssl.MemoryBIO(), ssl.MemoryBIO()
c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT); c.check_hostname = False; c.verify_mode = ssl.CERT_NONE
s = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); s.load_cert_chain('PEM')
client, server = c.wrap_bio(a, b), s.wrap_bio(b, a, server_side=True)
done = set()
while len(done) < 2:
    for end in (client, server):
        try: end.do_handshake(); done.add(end)
        except ssl.SSLWantReadError: pass
text = ('POST /pay HTTP/1.1\\r\\nAuthorization: Bearer NAME-s3cr3t-value\\r\\n\\r\\n'
        '{\"card\": \"4111 1111 1111 1111\", \"note\": \"plain NAME\", \"password\": \"hunter2-NAME\"}')
client.write(text.encode()); server.read(4096)
for _ in range(60): client.write(b'again NAME')
";

#[test]
fn what_an_agent_says_through_libssl_is_recorded_masked() {
    let mut world = World::start().unwrap();
    world.daemon.stop().unwrap();
    let config = world.daemon.directory().join("vestibule.toml");
    let mut config = fs::OpenOptions::new().append(true).open(config).unwrap();
    config.write_all(b"\n[tap]\nenabled = true\nrecords_per_second = 10\n").unwrap();
    world.daemon.restart().unwrap();
    let directory = world.daemon.directory();
    let pem = directory.join("both.pem");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=bank"])
        .args(["-keyout", "key.pem", "-out", "certificate.pem"])
        .current_dir(directory)
        .stderr(Stdio::null())
        .status();
    assert!(made.unwrap().success());
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
    fs::write(&pem, read("key.pem") + &read("certificate.pem")).unwrap();
    let talk = |who: &str| TALK.replace("PEM", &pem.display().to_string()).replace("NAME", who);

    world.reader().python(&talk("inside")).unwrap().ok().unwrap();
    let outside = directory.join("outside.py");
    fs::write(&outside, talk("outside")).unwrap();
    let outsider = Command::new(integration::paths::python()).arg(outside).status().unwrap();
    assert!(outsider.success());

    // What the rate let fall is summed up every five seconds.
    std::thread::sleep(Duration::from_secs(6));
    let evidence = world.evidence().unwrap();
    let rows = evidence
        .duckdb("SELECT kind, detail FROM control WHERE kind LIKE 'tls.%' ORDER BY seq")
        .unwrap();
    let of = |kind: &str| -> Vec<serde_json::Value> {
        let rows = rows.iter().filter(|row| row["kind"] == kind);
        rows.map(|row| serde_json::from_str(row["detail"].as_str().unwrap()).unwrap()).collect()
    };
    assert_eq!(of("tls.tap.on").len(), 1, "{rows:?}");
    assert!(!of("tls.tap.attached").is_empty(), "{rows:?}");
    let observed = of("tls.observed");
    let reader = integration::world::READER;
    assert!(observed.iter().all(|seen| seen["agent"] == reader && seen["observed_only"] == true));
    let (sent, received) = (&observed[0], &observed[1]);
    assert_eq!((&sent["direction"], &received["direction"]), (&"sent".into(), &"received".into()));
    assert_eq!(
        sent["text"],
        "POST /pay HTTP/1.1\r\nAuthorization:[secret]\r\n\r\n{\"card\": \"[card_number]\", \
         \"note\": \"plain inside\", \"password\": \"[secret]\"}"
    );
    assert_eq!(sent["text"], received["text"]);
    let all = format!("{rows:?}");
    for raw in ["s3cr3t", "4111", "hunter2", "outside"] {
        assert!(!all.contains(raw), "{raw}: {all}");
    }
    let dropped: u64 = of("tls.dropped").iter().map(|row| row["dropped"].as_u64().unwrap()).sum();
    assert_eq!(observed.len() as u64 + dropped, 62, "{rows:?}");
    assert!(dropped > 0, "{rows:?}");
}
