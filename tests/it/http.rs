//! HTTP targets: requests are decided and recorded each, answers masked, and what has two readings goes nowhere.

use std::fs;
use std::process::{Command, Stdio};

use integration::daemon::ExtraPolicy;
use integration::port::Port;
use integration::process::{self, Running, run, wait_until};
use integration::world::{READER, WRITER};
use integration::{Daemon, Evidence, HttpServer, Output, Supervisor, paths};
use serde_json::{Value, json};

use crate::standing::Asked;

/// What agents may do there.
pub(crate) const RULES: ExtraPolicy<'static> = ("api.cedar", include_str!("http.cedar"));

/// Asks a request for each line of its input, all on one connection as long as it holds; answers each with a line.
pub(crate) const ASKS: &str = "
import http.client, json, sys
c = http.client.HTTPConnection('127.0.0.1', PORT, timeout=60)
for line in sys.stdin:
    method, path, headers, body = json.loads(line)
    try:
        c.request(method, path, body, headers)
        port = c.sock.getsockname()[1]
        r = c.getresponse()
        said = {k.lower(): v for k, v in r.getheaders()}
        print(json.dumps({'status': r.status, 'headers': said, 'body': r.read().decode('latin-1'), 'port': port}))
    except (OSError, http.client.HTTPException) as e:
        c.close()
        print(json.dumps({'error': repr(e)}))
";

/// Sends bytes on a connection of their own, and answers what comes until its end, or nothing more does.
const SENDS: &str = "
import concurrent.futures, json, socket, sys
def send(text):
    s = socket.create_connection(('127.0.0.1', PORT), timeout=4)
    came = b''
    try:
        s.sendall(text.encode('latin-1'))
        while piece := s.recv(65536): came += piece
    except OSError: pass
    return came.decode('latin-1')
# What stays open is looked at until its time is over: side by side.
with concurrent.futures.ThreadPoolExecutor(16) as threads:
    for line in sys.stdin: print(json.dumps(list(threads.map(send, json.loads(line)))))
";

/// A server and a daemon before it.
pub(crate) struct Api {
    pub(crate) daemon: Daemon,
    pub(crate) server: HttpServer,
    _bank: Port,
}

impl Api {
    pub(crate) fn start() -> Self {
        Self::before(HttpServer::start().unwrap(), "")
    }

    /// A daemon before this server, with more in its configuration behind the target `api`.
    pub(crate) fn before(server: HttpServer, more: &str) -> Self {
        Self::ruled(server, &[], more)
    }

    /// The same, with policy files more.
    pub(crate) fn ruled(server: HttpServer, policies: &[ExtraPolicy<'_>], more: &str) -> Self {
        let bank = Port::take().unwrap();
        let target = format!(
            "[[target]]\nname = 'api'\naddress = '127.0.0.1:{}'\nprotocol = 'http'\n{more}",
            server.port()
        );
        let (none, rules) = (Supervisor::None, [&[RULES], policies].concat());
        let daemon = Daemon::start_with(none, bank.number(), 2, &rules, &target).unwrap();
        Self { daemon, server, _bank: bank }
    }

    /// A command of an agent's.
    pub(crate) fn agent(&self, name: &str, program: &str) -> Command {
        let mut command = self.daemon.cli();
        command.args(["run", "--agent", name, "--"]).arg(program);
        command
    }

    /// What curl says as an agent, of a path and more; the URL's host is as given.
    pub(crate) fn curl(&self, arguments: &[&str]) -> Output {
        let mut curl = self.agent(READER, "curl");
        run(curl.args(["-sS4", "--max-time", "60"]).args(arguments), 90).unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.server.port())
    }

    fn script(&self, agent: &str, script: &str) -> Running {
        let script = script.replace("PORT", &self.server.port().to_string());
        let mut python = self.agent(agent, paths::python().to_str().unwrap());
        python.args(["-u", "-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        Running::new(agent, &mut python).unwrap()
    }

    pub(crate) fn asked(&self, agent: &str) -> Requests {
        Requests(Asked::of(self.script(agent, ASKS)))
    }
}

/// An agent that asks one request after the other.
pub(crate) struct Requests(Asked);

impl Requests {
    pub(crate) fn ask(&mut self, method: &str, path: &str, headers: &Value, body: &str) -> Value {
        let body = if body.is_empty() { Value::Null } else { json!(body) };
        self.0.write(&json!([method, path, headers, body]).to_string());
        self.answer()
    }

    pub(crate) fn get(&mut self, path: &str) -> Value {
        self.ask("GET", path, &json!({}), "")
    }

    pub(crate) fn begin(&mut self, method: &str, path: &str) {
        self.0.write(&json!([method, path, {}, null]).to_string());
    }

    pub(crate) fn answer(&mut self) -> Value {
        serde_json::from_str(&self.0.line()).unwrap()
    }
}

/// The body of an answer as JSON.
#[track_caller]
pub(crate) fn body(answer: &Value) -> Value {
    let text = answer["body"].as_str().unwrap_or_else(|| panic!("{answer}"));
    serde_json::from_str(text).unwrap_or_else(|_| panic!("{answer}"))
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
fn requests_are_decided_and_recorded_each_and_a_refusal_names_its_policy() {
    let api = Api::start();
    let mut asked = api.asked(READER);
    let first = asked.get("/v1/customers/4711?expand=jo&api_key=hunter2hunter2");
    assert_eq!(first["status"], 200, "{first}");
    let refused = asked.get("/v1/closed/4711");
    assert_eq!(
        (&refused["status"], &refused["headers"]["content-type"]),
        (&json!(403), &json!("application/problem+json"))
    );
    let told = body(&refused);
    assert_eq!((&told["policy"], &told["status"]), (&json!("no-closed"), &json!(403)), "{told}");
    assert_eq!(told["detail"], "vestibule: closed accounts are nobody's");
    let written =
        asked.ask("POST", "/echo/notes", &json!({"Content-Type": "application/json"}), "{\"a\":1}");
    assert_eq!(
        (body(&written)["bytes"].as_u64(), &written["status"]),
        (Some(7), &json!(200)),
        "{written}"
    );
    let refused = asked.ask("DELETE", "/v1/customers/4711", &json!({}), "");
    assert_eq!(body(&refused)["detail"], "vestibule: no policy permits DELETE of /v1/customers/$1");
    let refused = asked.ask("POST", "/v1/customers/7", &json!({}), &"x".repeat(20_000));
    assert_eq!(refused["status"], 403, "{refused}");
    let held = asked.ask("POST", "/echo/held", &json!({}), "x");
    assert!(
        held["status"] == 403
            && body(&held)["detail"].as_str().unwrap().contains("PostgreSQL only"),
        "{held}"
    );
    let missing = asked.get("/nothing/here");
    assert_eq!(
        (&missing["status"], &missing["port"]),
        (&json!(404), &first["port"]),
        "one connection"
    );
    drop(asked);

    let came: Vec<String> = api
        .server
        .came()
        .unwrap()
        .iter()
        .map(|one| format!("{} {}", one["method"], one["target"]))
        .collect();
    let expected = [
        r#""GET" "/v1/customers/4711?expand=jo&api_key=hunter2hunter2""#,
        r#""POST" "/echo/notes""#,
        r#""GET" "/nothing/here""#,
    ];
    assert_eq!(came, expected, "what was refused went nowhere");
    wait_until("the session ended", 30, || Ok(api.daemon.count("sessions_open")? == 0)).unwrap();
    let evidence = Evidence::seal(&api.daemon).unwrap();
    let events = "SELECT session_seq AS n, verb, objects[1] AS object, statement_norm AS norm, status, rule_id, \
                  class_uid, type_uid, error_code, is_write FROM events WHERE kind = 'http.request' ORDER BY n";
    let row =
        |n: u32, verb: &str, object: &str, status: &str, rule: &str, type_uid: u32, code: Value| {
            json!([n, verb, object, status, rule, type_uid, code])
        };
    let rows = evidence.duckdb(events).unwrap();
    let seen: Vec<Value> = rows
        .iter()
        .map(|r| {
            json!([
                r["n"],
                r["verb"],
                r["object"],
                r["status"],
                r["rule_id"],
                r["type_uid"],
                r["error_code"]
            ])
        })
        .collect();
    assert_eq!(
        seen,
        [
            row(1, "GET", "/v1/customers/$1", "ok", "api-read", 400_203, Value::Null),
            row(2, "GET", "/v1/closed/$1", "denied", "no-closed", 400_203, json!("HT403")),
            row(3, "POST", "/echo/notes", "ok", "api-echo", 400_206, Value::Null),
            row(4, "DELETE", "/v1/customers/$1", "denied", "default-deny", 400_202, json!("HT403")),
            row(5, "POST", "/v1/customers/$1", "denied", "default-deny", 400_206, json!("HT403")),
            row(6, "POST", "/echo/held", "denied", "held", 400_206, json!("HT403")),
            row(7, "GET", "/nothing/here", "error", "api-read", 400_203, json!("HT404")),
        ]
    );
    assert_eq!(rows[0]["norm"], "GET /v1/customers/$1?expand=$2&api_key=$3");
    let texts = "SELECT statement, stream, response_sample FROM recordings WHERE session_seq = 1";
    let text = &evidence.duckdb(texts).unwrap()[0];
    assert_eq!(text["statement"], "GET /v1/customers/4711?expand=jo&api_key=[secret]");
    assert_eq!(text["stream"], "http_answer");
    assert!(
        text["response_sample"].as_str().unwrap().starts_with("HTTP/1.1 200 application/json\n{"),
        "{text}"
    );
    let sizes = "SELECT count(*) FROM events WHERE session_seq = 3 AND bytes_in > 100 AND bytes_out > 100 \
                 AND sent_us > 0 AND first_byte_us >= sent_us AND duration_us >= first_byte_us AND rows IS NULL";
    assert_eq!(evidence.count(sizes).unwrap(), 1);
    let session = "SELECT count(*) FROM sessions WHERE protocol = 'http' AND target_name = 'api' \
                   AND close_reason = 'closed' AND events_declared = 7 AND denied = 4";
    assert_eq!(evidence.count(session).unwrap(), 1);
    assert_eq!(api.daemon.count("flows_differing").unwrap(), 0, "{}", api.daemon.log());
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}

#[test]
fn unmodified_clients_are_served() {
    let api = Api::start();
    let seen = api.curl(&[
        "-d",
        "a=1",
        &api.url("/echo/x"),
        &api.url("/echo/y"),
        "-w",
        "\n%{num_connects} %{http_code}\n",
    ]);
    let seen = seen.ok().unwrap();
    let counts: Vec<&str> = seen.lines().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(counts, ["1 200", "0 200"], "one connection, two requests");
    let head = api.curl(&["-I", &api.url("/v1/customers/7")]).ok().unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    // A body that waits to be asked for; one without a length.
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "x".repeat(3 << 20)).unwrap();
    let upload = file.path().to_str().unwrap();
    for more in [&["-H", "Expect: 100-continue"][..], &["-H", "Transfer-Encoding: chunked"]] {
        let url = api.url("/echo/upload");
        let mut arguments = vec!["-T", upload, &url];
        arguments.extend(more);
        let told = api.curl(&arguments).ok().unwrap();
        assert!(told.contains("\"bytes\": 3145728"), "{told}");
    }
    // Refused before it was sent.
    let url = api.url("/v1/upload");
    let told = api.curl(&[
        "-T",
        upload,
        "-H",
        "Expect: 100-continue",
        &url,
        "-w",
        "%{http_code} %{size_upload}",
    ]);
    assert!(told.stdout.ends_with("403 0"), "{told:?}");
    let script = format!(
        "fetch('{}').then(r => r.json()).then(j => console.log(j.id)).catch(e => {{ console.error(e); process.exit(1); }})",
        api.url("/v1/customers/7")
    );
    let seen = run(api.agent(READER, "node").args(["-e", &script]), 60).unwrap();
    assert_eq!(seen.ok().unwrap(), "7\n");
    // Its own credentials are its own concern.
    let told = api.curl(&["-u", "jo:geheim", &api.url("/echo/x")]).ok().unwrap();
    assert!(told.contains("[\"authorization\", \"Basic am86Z2VoZWlt\"]"), "{told}");
    let told = api
        .curl(&["-H", "Authorization: Bearer opaque-token-of-its-own", &api.url("/echo/x")])
        .ok()
        .unwrap();
    assert!(told.contains("Bearer opaque-token-of-its-own"), "{told}");
    // Once the server ends its connection, the agent's ends as well.
    let mut asked = api.asked(READER);
    let last = asked.get("/last");
    assert_eq!(
        (&last["status"], &last["headers"]["connection"]),
        (&json!(200), &json!("close")),
        "{last}"
    );
    let next = asked.get("/v1/customers/7");
    assert!(next["status"] == 200 && next["port"] != last["port"], "{next}");
    let lost = asked.get("/close");
    assert_eq!((&lost["status"], &body(&lost)["policy"]), (&json!(502), &json!("http")), "{lost}");
}

#[test]
fn answers_are_masked() {
    let api = Api::start();
    let mut asked = api.asked(READER);
    for path in ["/v1/customers/7", "/pieces", "/text?type=application/vnd.bank%2Bjson"] {
        let answer =
            asked.ask("GET", path, &json!({"Range": "bytes=0-20", "Accept-Encoding": "gzip"}), "");
        let seen = body(&answer);
        assert_eq!(seen["ssn"], "***-**-1120", "{answer}");
        assert_eq!(seen["cards"], json!(["************1111", "**** **** **** 5559"]), "{answer}");
        assert_eq!(seen["note"], "call [phone], or write", "{answer}");
        assert!(seen["email"].as_str().unwrap().starts_with("hash:"), "{answer}");
        assert_eq!((&seen["id"], &seen["salary"]), (&json!(7), &json!(5000)));
        for gone in ["content-length", "etag", "content-md5", "x-trailer", "trailer"] {
            assert!(answer["headers"][gone].is_null(), "{gone}: {answer}");
        }
        assert!(!answer.to_string().contains("jo.doe@"), "in no field either: {answer}");
    }
    let text = asked.get("/text");
    assert!(text["body"].as_str().unwrap().contains(r#""ssn": "***-**-1120""#), "{text}");
    let came = api.server.came().unwrap();
    let sent = came[0]["headers"].to_string();
    assert!(
        sent.contains(r#"["Accept-Encoding","identity"]"#)
            || sent.contains(r#"["accept-encoding","identity"]"#),
        "{sent}"
    );
    assert!(!sent.to_lowercase().contains("range"), "{sent}");
    for (path, why) in [
        ("/gzip", "it is encoded"),
        ("/bytes", "it is no text"),
        ("/range", "it is a part of a text"),
        ("/text?type=text/plain;charset=utf-16", "it is no text"),
        ("/text?type=", "it is no text"),
    ] {
        let withheld = asked.get(path);
        assert_eq!(withheld["status"], 502, "{withheld}");
        let told = body(&withheld);
        assert_eq!(told["policy"], "default-deny", "{told}");
        assert!(told["detail"].as_str().unwrap().contains(why), "{told}");
        assert!(told["detail"].as_str().unwrap().contains("fetchUnmasked"), "{told}");
    }
    // Who may, gets them as they are.
    let mut other = api.asked(WRITER);
    assert_eq!(other.get("/bytes")["body"].as_str().unwrap().chars().count(), 1024);
    assert_eq!(other.get("/gzip")["headers"]["content-encoding"], "gzip");
    drop((asked, other));
    let evidence = Evidence::seal(&api.daemon).unwrap();
    let masked = "SELECT count(*) FROM events WHERE decision = 'mask' AND masked_count >= 5 AND status = 'ok'";
    assert_eq!(evidence.count(masked).unwrap(), 4);
    let withheld = "SELECT count(*) FROM control WHERE kind = 'answer.withheld'";
    assert_eq!(evidence.count(withheld).unwrap(), 5);
    let seen = evidence.duckdb("FROM recordings").unwrap();
    let seen: String = seen.iter().map(ToString::to_string).collect();
    for value in ["078-05-1120", "4111111111111111", "jo.doe@", "415-555-2671"] {
        assert!(!seen.contains(value), "{value}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
fn what_has_two_readings_is_refused_recorded_and_goes_nowhere() {
    let api = Api::start();
    let port = api.server.port();
    let head = |line: &str, more: &str| format!("{line}\r\nHost: 127.0.0.1:{port}\r\n{more}\r\n");
    let get = |more: &str| head("GET /echo/x HTTP/1.1", more);
    let smuggled = "GET /echo/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let cases = [
        (
            head("POST /echo/x HTTP/1.1", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")
                + "0\r\n\r\n"
                + smuggled,
            400,
        ),
        (
            head("POST /echo/x HTTP/1.1", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n")
                + "0\r\n\r\n"
                + smuggled,
            400,
        ),
        (head("POST /echo/x HTTP/1.1", "Content-Length: 1\r\nContent-Length: 2\r\n") + "ab", 400),
        (head("POST /echo/x HTTP/1.1", "Content-Length: 1\r\nContent-Length: 1\r\n") + "a", 400),
        (head("POST /echo/x HTTP/1.1", "Transfer-Encoding: xchunked\r\n") + "0\r\n\r\n", 400),
        (head("POST /echo/x HTTP/1.1", "Transfer-Encoding : chunked\r\n") + "0\r\n\r\n", 400),
        (get("X: a\r\n b\r\n"), 400),
        (get("X: a\nTransfer-Encoding: chunked\r\n"), 400),
        (get(&format!("Host: 127.0.0.1:{port}\r\n")), 400),
        ("GET /echo/x HTTP/1.1\r\n\r\n".into(), 400),
        ("GET /echo/x HTTP/1.1\r\nHost: other.example\r\n\r\n".into(), 421),
        ("GET /echo/x HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n".into(), 421),
        (head("GET http://other.example/echo/x HTTP/1.1", ""), 400),
        (head(&format!("GET https://127.0.0.1:{port}/echo/x HTTP/1.1"), ""), 400),
        (head("GET /echo/../v1/closed/1 HTTP/1.1", ""), 400),
        (head("GET /echo/%2e%2e/v1/closed/1 HTTP/1.1", ""), 400),
        (head("GET //v1/closed/1 HTTP/1.1", ""), 400),
        (head("GET /v1;x/closed/1 HTTP/1.1", ""), 400),
        (head("GET /v1%2fclosed/1 HTTP/1.1", ""), 400),
        (head("OPTIONS * HTTP/1.1", ""), 400),
        (head("TRACE /echo/x HTTP/1.1", ""), 501),
        (head(&format!("CONNECT 127.0.0.1:{port} HTTP/1.1"), ""), 501),
        (get("Connection: Upgrade\r\nUpgrade: websocket\r\n"), 501),
        (
            get(
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
            ),
            501,
        ),
        (get("Expect: 200-maybe\r\n"), 417),
        ("GET /echo/x HTTP/1.0\r\n\r\n".into(), 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505),
        ("GARBAGE\r\n\r\n".into(), 400),
        (get(&format!("X: {}\r\n", "x".repeat(200_000))), 431),
        (get(&"X: y\r\n".repeat(200)), 431),
        // The second one before the first one's answer.
        (head("GET /slow?s=0.5 HTTP/1.1", "") + &get(""), 200),
    ];
    let mut sends = Asked::of(api.script(READER, SENDS));
    let sent: Vec<&str> = cases.iter().map(|(bytes, _)| bytes.as_str()).collect();
    let came: Vec<String> = serde_json::from_str(&sends.ask(&json!(sent).to_string())).unwrap();
    assert_eq!(came.len(), cases.len());
    for ((bytes, status), came) in cases.iter().zip(came) {
        let shown = &bytes[..bytes.len().min(200)];
        assert_eq!(came.get(8..13), Some(&*format!(" {status} ")), "{shown:?}: {came:?}");
    }
    drop(sends);
    let log = api.server.log();
    assert_eq!(log.lines().count(), 1, "only the slow one arrived: {log}");
    let evidence = Evidence::seal(&api.daemon).unwrap();
    let refused = "SELECT count(*) FROM events WHERE rule_id = 'http' AND status = 'denied' AND error_code LIKE 'HT%'";
    let violations = "SELECT count(*) FROM control WHERE kind = 'protocol.violation'";
    let (refused, violations) =
        (evidence.count(refused).unwrap(), evidence.count(violations).unwrap());
    assert!(refused >= 20 && violations >= 4, "{refused} and {violations}");
    assert!(
        refused + violations >= cases.len() as u64 - 1,
        "{refused} and {violations} of {}",
        cases.len()
    );
}

#[test]
fn memory_is_flat_over_large_bodies() {
    const MIB: u64 = 100;
    let api = Api::start();
    api.curl(&[&api.url("/big?mb=2")]).ok().unwrap();
    let pid = api.daemon.pid().unwrap();
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    let before = process::peak_bytes(pid).unwrap();
    let down = format!(
        "curl -sS '{}' | tee >(grep -c 4111111111111111 >&2) | wc -c",
        api.url(&format!("/big?mb={MIB}"))
    );
    let seen = run(api.agent(READER, "bash").args(["-c", &down]), 300).unwrap();
    assert!(seen.stdout.trim().parse::<u64>().unwrap() > (MIB - 1) << 20, "{seen:?}");
    assert_eq!(seen.stderr.lines().last(), Some("0"), "each is masked: {seen:?}");
    let up = format!("head -c {} /dev/zero | curl -sS -T - '{}'", MIB << 20, api.url("/echo/big"));
    let seen = run(api.agent(READER, "bash").args(["-c", &up]), 300).unwrap().ok().unwrap();
    assert!(seen.contains(&format!("\"bytes\": {}", MIB << 20)), "{seen}");
    // Who does not read, holds the server back.
    let slow = "import socket, time\ns = socket.create_connection(('127.0.0.1', PORT))\n\
                s.sendall(b'GET /big?mb=500 HTTP/1.1\\r\\nHost: 127.0.0.1:PORT\\r\\n\\r\\n')\ntime.sleep(4)";
    let slow = slow.replace("PORT", &api.server.port().to_string());
    run(api.agent(READER, paths::python().to_str().unwrap()).args(["-c", &slow]), 60)
        .unwrap()
        .ok()
        .unwrap();
    let grown = process::peak_bytes(pid).unwrap().saturating_sub(before);
    assert!(grown < 32 << 20, "{} MiB more", grown >> 20);
    let interrupted =
        "SELECT count(*) FROM events WHERE status = 'interrupted' AND objects = ['/big']";
    wait_until("the session ended", 30, || Ok(api.daemon.count("sessions_open")? == 0)).unwrap();
    assert_eq!(Evidence::seal(&api.daemon).unwrap().count(interrupted).unwrap(), 1);
}

#[test]
fn what_can_not_be_is_not_configured() {
    let check = |text: &str, told: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let mut daemon = Command::new(paths::programs().unwrap().join("vestibuled"));
        let seen = run(daemon.arg("--check").arg("--config").arg(file.path()), 30).unwrap();
        assert!(seen.code != Some(0) && seen.stderr.contains(told), "{seen:?}");
    };
    let target =
        |name: &str| format!("[[target]]\nname='{name}'\naddress='*:80'\nprotocol='http'\n");
    check(&target("a/b"), "no slash, where the protocol is http");
    let credential = "[[credential]]\ntarget='a'\naccount='x'\nsecret_env='X'\n";
    check(&(target("a") + credential), "speaks HTTP, which has no accounts here");
    check(&target("a").replace("http", "https"), "unknown variant `https`");
}
