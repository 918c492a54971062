//! Captures of HTTP: what clients asked a server is imported request by request; what can't be read is said.

use std::fs;
use std::path::Path;
use std::process::Command;

use capture::write::{Talk, Writer};
use integration::process::run;
use integration::{HttpServer, paths};
use serde_json::{Value, json};
use types::addr::Side;

use crate::imported::{import, program, query, sniffed, verify};

/// What the last request asks for.
const LAST: &str = "/nothing/the-last";

/// Captures what goes to a server while `traffic` runs.
fn captured(server: &HttpServer, to: &Path, traffic: impl FnOnce(&dyn Fn(&[&str]) -> String)) {
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", server.port());
    let curl = |arguments: &[&str]| {
        let mut curl = Command::new("curl");
        let is_path = |one: &str| one.starts_with('/') && !Path::new(one).is_file();
        let arguments =
            arguments.iter().map(|one| if is_path(one) { url(one) } else { (*one).to_owned() });
        run(curl.args(["-sS4", "--max-time", "30"]).args(arguments), 60).unwrap().ok().unwrap()
    };
    sniffed((server.port(), &[LAST.as_bytes()]), to, &[], || {
        traffic(&curl);
        curl(&[LAST]);
    });
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
fn what_the_server_was_asked_is_what_is_imported() {
    let folder = tempfile::tempdir().unwrap();
    let server = HttpServer::start().unwrap();
    let (capture, upload) = (folder.path().join("capture.pcap"), folder.path().join("upload"));
    fs::write(&upload, "x".repeat(300_000)).unwrap();
    let upload = upload.to_str().unwrap();
    captured(&server, &capture, |curl| {
        let token = "Authorization: Bearer quillbearer";
        curl(&[
            "-H",
            token,
            "/v1/customers/4711?api_key=quillquery&expand=jo",
            "/pieces",
            "/bytes",
        ]);
        curl(&["-I", "/v1/customers/7"]);
        curl(&["-T", upload, "-H", "Expect: 100-continue", "/echo/upload"]);
        curl(&["-T", upload, "-H", "Transfer-Encoding: chunked", "/echo/chunked"]);
        curl(&["-X", "DELETE", "/status/500"]);
        curl(&["-H", "Connection: close", "/last"]);
    });
    let map = folder.path().join("map.toml");
    let text = format!(
        "[[agent]]\nname = \"bench\"\naddresses = [\"127.0.0.0/8\"]\n\n\
         [[target]]\nname = \"api\"\naddresses = [\"127.0.0.1:{}\"]\n",
        server.port()
    );
    fs::write(&map, text).unwrap();
    let archive = folder.path().join("imported");
    let (code, said) = import(&capture, &archive, &["--map", map.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said:#}");
    assert_eq!((&said["sessions"], &said["statements"]), (&json!(7), &json!(9)), "{said:#}");
    let sql = "SELECT e.verb, r.statement, e.status, e.error_code AS code, e.bytes_in AS sent, e.bytes_out AS got, \
               e.class_uid AS class, e.target_name AS target, e.agent_id AS agent \
               FROM events e JOIN recordings r USING (session_id, session_seq) \
               WHERE e.kind = 'import.http.request' ORDER BY e.ts, e.seq";
    let rows = query(&archive, sql);
    let came = server.came().unwrap();
    assert_eq!(rows.len(), came.len(), "{rows:#?}");
    for (row, came) in rows.iter().zip(&came) {
        assert_eq!(row["verb"], came["method"], "{row}");
        let target = came["target"].as_str().unwrap().replace("quillquery", "[secret]");
        let expected = format!("{} {target}", came["method"].as_str().unwrap());
        assert_eq!(row["statement"], expected, "{row}");
        assert!(row["sent"].as_u64() > came["bytes"].as_u64(), "{row} {came}");
        assert_eq!((&row["target"], &row["agent"]), (&json!("api"), &json!("bench")), "{row}");
    }
    let ends: Vec<(&str, &Value)> =
        rows.iter().map(|row| (row["status"].as_str().unwrap(), &row["code"])).collect();
    let (ok, none) = ("ok", &Value::Null);
    let (e500, e404) = (json!("HT500"), json!("HT404"));
    assert_eq!(
        ends,
        [
            (ok, none),
            (ok, none),
            (ok, none),
            (ok, none),
            (ok, none),
            (ok, none),
            ("error", &e500),
            (ok, none),
            ("error", &e404),
        ]
    );
    assert!(
        rows[2]["got"].as_u64().unwrap() > 1024 && rows[3]["got"].as_u64().unwrap() < 500,
        "{rows:?}"
    );
    let (output, report) = verify(&archive, said["key"].as_str().unwrap());
    assert_eq!((output.code, &report["ok"]), (Some(0), &true.into()), "{report:#}");
    let all: String = ["events", "recordings", "control", "sessions"]
        .iter()
        .flat_map(|table| query(&archive, &format!("FROM {table}")))
        .map(|row| row.to_string())
        .collect();
    assert!(!all.contains("quill"), "no secret is anywhere");
    // Policies decide what is in it.
    let policies = folder.path().join("policies");
    fs::create_dir(&policies).unwrap();
    for file in ["vestibule.cedarschema", "classification.toml"] {
        fs::copy(paths::root().join("policies").join(file), policies.join(file)).unwrap();
    }
    let rule = "@id(\"read\")\npermit (principal, action == Action::\"fetch\", resource in Path::\"api/v1\");\n";
    fs::write(policies.join("rule.cedar"), rule).unwrap();
    let mut test = program("vestibule");
    test.args(["policy", "backtest", "--output", "json", "--capture"]).arg(&capture);
    let told = run(test.arg("--map").arg(&map).arg(&policies), 60).unwrap().ok().unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["commands"], 9, "{told:#}");
    assert_eq!(told["agents"]["bench"]["now_refused"], 7, "{told:#}");
}

/// A capture of connections, each what was said by turns.
fn made(path: &Path, connections: &[&[(Side, &str)]]) {
    let file = std::io::BufWriter::new(fs::File::create(path).unwrap());
    let mut writer = Writer::new(file, "tests", "made").unwrap();
    for (port, turns) in (40_000..).zip(connections) {
        let client = format!("10.0.0.1:{port}").parse().unwrap();
        let server = "10.0.0.2:80".parse().unwrap();
        let mut talk = Talk::open(&mut writer, client, server, 0, &[]).unwrap();
        for (at, (side, text)) in (1..).zip(*turns) {
            talk.say(&mut writer, *side, (at, text.as_bytes()), &[]).unwrap();
        }
        talk.close(&mut writer, 1_000, &[]).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn what_can_not_be_read_is_counted_and_said() {
    const DOWN: Side = Side::Downstream;
    const UP: Side = Side::Upstream;
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("made.pcapng");
    let get = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    made(
        &capture,
        &[
            // Pipelined, with answers in their order.
            &[(DOWN, &get.repeat(2)), (UP, ok), (UP, &ok.replace("200", "404"))],
            // A WebSocket, a tunnel.
            &[
                (
                    DOWN,
                    "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
                ),
                (UP, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"),
                (DOWN, "\u{1}\u{2}"),
            ],
            &[
                (DOWN, "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
                (UP, "HTTP/1.1 200 OK\r\n\r\n"),
                (DOWN, "\u{16}"),
            ],
            // Two lengths.
            &[(
                DOWN,
                "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            )],
            // A path with two readings is one request all the same.
            &[
                (DOWN, "GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n"),
                (UP, "HTTP/1.0 200 OK\r\n\r\nto the end"),
            ],
            // TLS, and HTTP/2.
            &[(DOWN, "\u{16}\u{3}\u{1}")],
            &[(DOWN, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")],
        ],
    );
    let archive = folder.path().join("imported");
    let (code, said) = import(&capture, &archive, &[]);
    assert_eq!(code, Some(1), "{said:#}");
    let unread = json!({"other_protocol": 2, "violation": 1, "tls": 1, "unknown_protocol": 1});
    assert_eq!(said["unread"], unread, "{said:#}");
    assert_eq!(said["violations"], 1, "{said:#}");
    let sql = "SELECT statement_norm AS norm, status, error_code AS code, bytes_out AS got FROM events ORDER BY ts, seq";
    let rows = query(&archive, sql);
    let row = |norm: &str, status: &str, code: Value| json!([norm, status, code]);
    let mut found: Vec<Value> =
        rows.iter().map(|row| json!([row["norm"], row["status"], row["code"]])).collect();
    found.sort_by_key(ToString::to_string);
    let mut expected = vec![
        row("GET /a", "ok", Value::Null),
        row("GET /a", "error", json!("HT404")),
        row("GET /ws", "ok", Value::Null),
        row("(unreadable)", "ok", Value::Null),
        row("(unreadable)", "ok", Value::Null),
    ];
    expected.sort_by_key(ToString::to_string);
    assert_eq!(found, expected);
    let sessions = "SELECT count(*) AS n FROM sessions WHERE protocol = 'http'";
    assert_eq!(query(&archive, sessions)[0]["n"], 5);
    let (output, report) = verify(&archive, said["key"].as_str().unwrap());
    assert_eq!((output.code, &report["ok"]), (Some(0), &true.into()), "{report:#}");
}
