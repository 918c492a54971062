//! HTTP over TLS: a certificate of the host's authority for agents, the real server's verified, HTTP/1.1 alone.

use integration::certificates::Certificates;
use integration::process::run;
use integration::world::READER;
use integration::{Evidence, HttpServer};
use serde_json::json;

use crate::http::{Api, body};
use crate::tls::{NAMES, VERIFIED};

struct Secured {
    api: Api,
    certificates: Certificates,
}

impl Secured {
    fn start(names: &str, target: &str) -> Self {
        let certificates = Certificates::make(names).unwrap();
        certificates.make_authority().unwrap();
        let (certificate, key) = (certificates.path("server.crt"), certificates.path("server.key"));
        let server = HttpServer::start_tls(&certificate, &key).unwrap();
        let api = Api::before(server, &certificates.daemon_settings(target));
        Self { api, certificates }
    }

    fn url(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.api.server.port())
    }
}

#[test]
fn https_is_decided_and_masked_like_http() {
    let world = Secured::start(NAMES, VERIFIED);
    for host in ["localhost", "127.0.0.1"] {
        let url = world.url(host, "/v1/customers/7");
        let seen = world
            .api
            .curl(&["--http2", &url, "-w", "\n%{http_version} %{ssl_verify_result}"])
            .ok()
            .unwrap();
        let (text, said) = seen.rsplit_once('\n').unwrap();
        assert_eq!(said, "1.1 0", "HTTP/2 is not offered; the certificate is good");
        let seen: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!((&seen["ssn"], &seen["id"]), (&json!("***-**-1120"), &json!(7)));
    }
    let refused =
        world.api.curl(&[&world.url("localhost", "/v1/closed/1"), "-w", "\n%{http_code}"]);
    assert!(refused.stdout.ends_with("403"), "{refused:?}");
    // A host that is another than the one that the handshake was for.
    let other = world.api.curl(&[
        "-H",
        "Host: 127.0.0.1",
        &world.url("localhost", "/echo/x"),
        "-w",
        "\n%{http_code}",
    ]);
    assert!(other.stdout.ends_with("421"), "{other:?}");
    // Who speaks nothing but HTTP/2 has no handshake.
    let script = format!(
        "import ssl, socket\nc = ssl.create_default_context()\nc.set_alpn_protocols(['h2'])\n\
         s = socket.create_connection(('127.0.0.1', {}))\n\
         try: c.wrap_socket(s, server_hostname='localhost')\nexcept OSError: print('refused')",
        world.api.server.port()
    );
    let python = integration::paths::python();
    let mut command = world.api.agent(READER, python.to_str().unwrap());
    let seen = run(command.args(["-c", &script]), 60).unwrap().ok().unwrap();
    assert_eq!(seen.trim(), "refused");
    let evidence = Evidence::seal(&world.api.daemon).unwrap();
    let fingerprint = world.certificates.fingerprint("server.crt").unwrap();
    let events = format!(
        "SELECT count(*) FROM events WHERE status = 'ok' AND tls_version = 'TLSv1.3' AND tls_peer_fp = '{fingerprint}' \
         AND masked_count > 0"
    );
    assert_eq!(evidence.count(&events).unwrap(), 2);
    let begun = "SELECT count(*) FROM control WHERE kind = 'session.not_begun' AND detail LIKE '%agent_tls%'";
    assert_eq!(evidence.count(begun).unwrap(), 1);
    assert_eq!(world.api.daemon.count("flows_differing").unwrap(), 0, "{}", world.api.daemon.log());
}

#[test]
fn a_server_that_is_not_the_one_it_says_gets_no_request() {
    let world = Secured::start("DNS:other.example", VERIFIED);
    let seen = world.api.curl(&[&world.url("localhost", "/echo/x"), "-w", "\n%{http_code}"]);
    assert!(
        seen.stdout.ends_with("502") && seen.stdout.contains("TLS towards the target failed"),
        "{seen:?}"
    );
    assert_eq!(world.api.server.log(), "");
    let evidence = Evidence::seal(&world.api.daemon).unwrap();
    assert_eq!(
        evidence.count("SELECT count(*) FROM sessions WHERE close_reason = 'target_tls'").unwrap(),
        1
    );
}

#[test]
fn an_operator_may_have_the_targets_leg_encrypted_where_the_agents_is_not() {
    let world = Secured::start(NAMES, &format!("{VERIFIED}\nwhen = \"always\""));
    let mut asked = world.api.asked(READER);
    let seen = asked.get("/v1/customers/7");
    assert_eq!(
        (&seen["status"], &body(&seen)["ssn"]),
        (&json!(200), &json!("***-**-1120")),
        "{seen}"
    );
    drop(asked);
    // Of a target that is never spoken to with TLS, none is offered.
    let world = Secured::start(NAMES, "when = \"never\"");
    let seen = world.api.curl(&[&world.url("localhost", "/echo/x")]);
    assert_ne!(seen.code, Some(0), "{seen:?}");
    let evidence = Evidence::seal(&world.api.daemon).unwrap();
    let ended = "SELECT count(*) FROM sessions WHERE close_reason = 'target_without_tls'";
    assert_eq!(evidence.count(ended).unwrap(), 1);
}
