//! HTTP sessions recorded as policy says: every byte as the agent sent and got it, a limit, or a digest alone.

use std::fs;
use std::process::Command;

use integration::daemon::ExtraPolicy;
use integration::process::{self, Output, run, wait_until};
use integration::world::{READER, WRITER};
use integration::{Evidence, HttpServer, SmallDisk, paths};
use serde_json::Value;
use tempfile::TempDir;

use crate::http::Api;
use crate::sealed::is_anywhere;

/// All but one path is kept in full.
const IN_FULL: ExtraPolicy<'static> = (
    "full.cedar",
    r#"
@id("record-all")
@record("full")
forbid (principal, action in [Action::"fetch", Action::"submit"], resource in Host::"api")
unless { context.path == "/text" };
"#,
);

/// Talks by hand on one connection, and says in base64 what was sent and what came; `*` stands in the place of what a
/// recording is not to have.
const BY_HAND: &str = r"
import base64, json, re, socket
s = socket.create_connection(('127.0.0.1', PORT), timeout=60)
f = s.makefile('rb')
sent, came = b'', b''
def bare(text): return text.replace('«'.encode(), b'').replace('»'.encode(), b'')
def ask(line, *fields, body='', is_kept=True):
    global sent, came
    text = '\r\n'.join([line + ' HTTP/1.1', 'Host: 127.0.0.1:PORT', *fields, '', '']).encode() + body.encode()
    s.sendall(bare(text))
    starred = re.sub('«([^»]*)»'.encode(), lambda m: b'*' * len(m[1]), text)
    sent += starred if is_kept else b'*' * len(bare(text))
    got, fields = b'', {}
    while True:
        line_ = f.readline()
        name, _, value = line_.partition(b':')
        fields[name.strip().lower()] = value.strip()
        if name.lower() == b'set-cookie':
            line_ = line_.replace(value.strip(), b'*' * len(value.strip()))
        got += line_
        if line_ == b'\r\n': break
    if line.startswith('HEAD'): pass
    elif b'transfer-encoding' in fields:
        while True:
            size = f.readline()
            got += size + f.read(int(size, 16) + 2)
            if int(size, 16) == 0: break
    else: got += f.read(int(fields[b'content-length']))
    came += got if is_kept else b'*' * len(got)
ask('GET /v1/customers/7?api_key=«quillinquery12»&expand=jo', 'Authorization: «Basic quillasbasic1234567=»', 'Cookie: «sid=quillcookie»')
ask('GET /pieces', 'x-api-key: «quillkey»', 'X-Other: seen')
ask('GET /text', 'X-Plain: not asked for', is_kept=False)
ask('GET /v1/closed/4711', 'Authorization: «Bearer quillbearer»')
ask('POST /echo/notes', 'Transfer-Encoding: chunked', body='4;ext=1\r\nswan\r\n7\r\nfeather\r\n0\r\nX-Token: «quilltrailer»\r\n\r\n')
ask('HEAD /v1/customers/8')
ask('GET /cookie')
ask('GET /nothing/here')
ask('DELETE /v1/customers/7', 'Content-Length: 4', body='gone')
s.shutdown(socket.SHUT_WR)
assert f.read() == b''
print(json.dumps([base64.b64encode(sent).decode(), base64.b64encode(came).decode()]))
";

/// A daemon before an HTTP server, whose recordings are sealed to a key.
struct Taped {
    api: Api,
    keys: TempDir,
}

impl Taped {
    fn start() -> Self {
        Self::start_with("")
    }

    /// With more at the end of the configuration.
    fn start_with(rest: &str) -> Self {
        let keys = tempfile::tempdir().unwrap();
        let mut keygen = Command::new(paths::programs().unwrap().join("vestibule"));
        keygen.args(["recordings", "keygen", "--out"]).arg(keys.path().join("audit"));
        run(&mut keygen, 10).unwrap().ok().unwrap();
        let public = keys.path().join("audit.pub").display().to_string();
        let more = format!("\n[recordings]\nrecipients = [\"{public}\"]\n{rest}");
        Self { api: Api::ruled(HttpServer::start().unwrap(), &[IN_FULL], &more), keys }
    }

    fn agent(&self, agent: &str, script: &str) -> String {
        let script = script.replace("PORT", &self.api.server.port().to_string());
        let mut python = self.api.agent(agent, paths::python().to_str().unwrap());
        run(python.args(["-c", &script]), 300).unwrap().ok().unwrap()
    }

    fn evidence(&self) -> Evidence<'_> {
        let daemon = &self.api.daemon;
        wait_until("the session ended", 30, || Ok(daemon.count("sessions_open")? == 0)).unwrap();
        let evidence = Evidence::seal(daemon).unwrap();
        assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
        evidence
    }

    /// `vestibule` with a session opened by the key.
    fn opened(&self, evidence: &Evidence<'_>, words: &[&str], more: &[&str]) -> Output {
        let mut cli = self.api.daemon.cli();
        cli.args(words).args(["--purpose", "case 7", "--archive"]).arg(evidence.archive());
        cli.arg("--vault").arg(self.api.daemon.directory().join("state/recordings/keys"));
        run(cli.arg("--key").arg(self.keys.path().join("audit.key")).args(more), 120).unwrap()
    }

    /// One side of a session as a file, and its digest.
    fn extracted(&self, evidence: &Evidence<'_>, session: &str, side: &str) -> (Vec<u8>, Output) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(side);
        let out = file.to_str().unwrap();
        let more = ["--session", session, "--fill-gaps", "--extract", side, "--out", out];
        let told = self.opened(evidence, &["recordings", "open"], &more);
        assert_eq!(told.code, Some(0), "{}", told.stderr);
        (fs::read(file).unwrap(), told)
    }
}

/// The one session there is.
fn session(evidence: &Evidence<'_>) -> String {
    let rows = evidence.duckdb("SELECT session_id FROM sessions").unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows[0]["session_id"].as_str().unwrap().to_owned()
}

fn decoded(text: &Value) -> String {
    let mut decode = Command::new("base64");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("text"), text.as_str().unwrap()).unwrap();
    run(decode.arg("-d").arg(folder.path().join("text")), 10).unwrap().ok().unwrap()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
fn http_that_is_kept_in_full_is_what_went_over_the_wire_to_the_byte() {
    let taped = Taped::start();
    let told: Value = serde_json::from_str(&taped.agent(READER, BY_HAND)).unwrap();
    let (sent, came) = (decoded(&told[0]), decoded(&told[1]));
    let evidence = taped.evidence();
    let session = session(&evidence);
    let (found, _) = taped.extracted(&evidence, &session, "sent");
    assert_eq!(String::from_utf8(found).unwrap(), sent);
    let (found, told) = taped.extracted(&evidence, &session, "received");
    assert_eq!(String::from_utf8(found).unwrap(), came);
    assert!(
        told.stderr.contains("bytes are not kept: asterisks in their place"),
        "{}",
        told.stderr
    );
    // It is what was masked, and what was refused.
    assert!(came.contains("***-**-1120") && !came.contains("078-05-1120"), "{came}");
    assert!(
        came.contains("closed accounts are nobody's") && came.contains("HTTP/1.1 403"),
        "{came}"
    );
    assert!(came.contains("no policy permits DELETE of /v1/customers/$1"), "{came}");
    // What is left out is said.
    let entries = taped.opened(&evidence, &["recordings", "open"], &["--session", &session]);
    let entries = entries.ok().unwrap();
    let all: Vec<Value> = entries.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let gaps: Vec<Value> = all
        .iter()
        .filter(|entry| entry["kind"] == "gap")
        .map(|entry| serde_json::from_str(entry["text"].as_str().unwrap()).unwrap())
        .collect();
    let of = |side: &str, why: &str| {
        let is_it = |gap: &&Value| gap["side"] == side && gap["why"] == why;
        gaps.iter().filter(is_it).map(|gap| gap["bytes"].as_u64().unwrap()).sum::<u64>()
    };
    let secrets = "quillinquery12Basic quillasbasic1234567=sid=quillcookiequillkeyBearer quillbearerquilltrailer";
    assert_eq!(of("sent", "secret"), secrets.len() as u64, "{gaps:?}");
    assert_eq!(of("received", "secret"), "sid=quillset; Path=/".len() as u64, "{gaps:?}");
    assert!(of("sent", "policy") > 60 && of("received", "policy") > 100, "{gaps:?}");
    assert_eq!(all.last().unwrap()["kind"], "end");
    // No secret is anywhere, opened or not; what is none is nowhere in clear.
    let state = taped.api.daemon.directory().join("state");
    assert!(!entries.contains("quill"), "{entries}");
    assert_eq!(is_anywhere(&state, "quill"), None);
    assert_eq!(is_anywhere(evidence.archive(), "quill"), None);
    assert!(entries.contains("feather"), "{entries}");
    assert_eq!(is_anywhere(&state, "feather"), None);
    // A replay shows what passed, gaps marked; packets of it are read by others.
    let replayed =
        taped.opened(&evidence, &["archive", "replay", "--speed", "0"], &[&session]).ok().unwrap();
    for shown in [
        "» GET /v1/customers/7?api_key=[14 bytes not kept: secret]&expand=jo HTTP/1.1",
        "» Authorization: [26 bytes not kept: secret]",
        "» x-api-key: [8 bytes not kept: secret]",
        "< HTTP/1.1 403 Forbidden",
        "< set-cookie: [20 bytes not kept: secret]",
        "» feather",
        "bytes not kept: policy]",
    ] {
        assert!(replayed.contains(shown), "{shown}: {replayed}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("session.pcapng");
    let out = ["--out", file.to_str().unwrap(), &session];
    taped.opened(&evidence, &["archive", "export", "pcapng"], &out).ok().unwrap();
    let port = taped.api.server.port();
    let tshark = |filter: &str, fields: &[&str]| {
        let mut tshark = Command::new("tshark");
        tshark.args(["-d", &format!("tcp.port=={port},http"), "-Y", filter, "-T", "fields"]);
        for field in fields {
            tshark.args(["-e", field]);
        }
        run(tshark.arg("-r").arg(&file), 60).unwrap().ok().unwrap()
    };
    assert_eq!(tshark("_ws.malformed || tcp.analysis.flags", &["frame.number"]), "");
    let uris = tshark("http.request", &["http.request.method", "http.request.uri"]);
    let uris: Vec<&str> = uris.lines().collect();
    assert_eq!(
        uris,
        [
            "GET\t/v1/customers/7?api_key=**************&expand=jo",
            "GET\t/pieces",
            // Made of its words.
            "GET\t/text",
            "GET\t/v1/closed/4711",
            "POST\t/echo/notes",
            "HEAD\t/v1/customers/8",
            "GET\t/cookie",
            "GET\t/nothing/here",
            "DELETE\t/v1/customers/7",
        ]
    );
    let codes = tshark("http.response", &["http.response.code"]);
    assert_eq!(
        codes.split_whitespace().collect::<Vec<_>>(),
        ["200", "200", "200", "403", "200", "200", "200", "404", "403"]
    );
    let comments = tshark("frame.comment", &["frame.comment"]);
    assert!(comments.contains("decision=deny rule=no-closed"), "{comments}");
    assert!(comments.contains("bytes before this are not kept: policy"), "{comments}");
}

/// Has a large answer come, and says its length and digest as it stood on the wire.
const LARGE: &str = "
import hashlib, socket
s = socket.create_connection(('127.0.0.1', PORT), timeout=120)
s.sendall(b'GET /big?mb=MIB&type=application/octet-stream HTTP/1.1\\r\\nHost: 127.0.0.1:PORT\\r\\n\\r\\n')
digest, count, last = hashlib.sha256(), 0, b''
while not last.endswith(b'0\\r\\n\\r\\n'):
    piece = s.recv(1 << 20)
    digest.update(piece)
    count += len(piece)
    last = (last + piece)[-5:]
print(count, digest.hexdigest())
";

#[test]
fn a_large_answer_is_kept_in_full_in_flat_memory() {
    const MIB: u64 = 200;
    let taped = Taped::start();
    let script = |mib: u64| LARGE.replace("MIB", &mib.to_string());
    taped.agent(WRITER, &script(2));
    let pid = taped.api.daemon.pid().unwrap();
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    let before = process::peak_bytes(pid).unwrap();
    let told = taped.agent(WRITER, &script(MIB));
    let [count, digest] = told.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{told}") };
    assert!(count.parse::<u64>().unwrap() > (MIB - 1) << 20, "{told}");
    let grown = process::peak_bytes(pid).unwrap().saturating_sub(before);
    assert!(grown < 48 << 20, "{} MiB more", grown >> 20);
    let evidence = taped.evidence();
    let sql = "SELECT session_id FROM events ORDER BY bytes_out DESC LIMIT 1";
    let session = evidence.duckdb(sql).unwrap()[0]["session_id"].as_str().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("received");
    let more = ["--session", &session, "--extract", "received", "--out", file.to_str().unwrap()];
    taped.opened(&evidence, &["recordings", "open"], &more).ok().unwrap();
    assert_eq!(fs::metadata(&file).unwrap().len().to_string(), count);
    let summed = run(Command::new("sha256sum").arg(&file), 60).unwrap().ok().unwrap();
    assert!(summed.starts_with(digest), "{summed} {digest}");
}

/// Has an answer come that does not compress, as far as it comes, and says how much that is, and its digest.
const RANDOM: &str = "
import hashlib, socket
s = socket.create_connection(('127.0.0.1', PORT), timeout=120)
s.sendall(b'GET /random?mb=200 HTTP/1.1\\r\\nHost: 127.0.0.1:PORT\\r\\n\\r\\n')
digest, count = hashlib.sha256(), 0
try:
    while piece := s.recv(1 << 16):
        digest.update(piece)
        count += len(piece)
except OSError: pass
print(count, digest.hexdigest())
";

#[test]
fn an_answer_that_can_not_be_recorded_comes_no_further() {
    let mut disk = SmallDisk::new().unwrap();
    let mut taped = Taped::start_with("\n[journal]\nsegment_bytes = 1048576\nreserve_bytes = 0\n");
    taped.api.daemon.stop().unwrap();
    disk.mount(&taped.api.daemon.journal()).unwrap();
    taped.api.daemon.restart().unwrap();
    disk.fill_but(8 << 20).unwrap();
    let told = taped.agent(WRITER, RANDOM);
    let [count, digest] = told.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{told}") };
    let count: usize = count.parse().unwrap();
    // What fits on the disk and into the journal's memory, but for what it takes itself.
    assert!((4 << 20..100 << 20).contains(&count), "{told}");
    disk.make_room().unwrap();
    let is_well = || Ok(taped.api.daemon.status()?["journal_trouble"].is_null());
    wait_until("the journal goes on", 60, is_well).unwrap();
    // Nor was its end: what is open when the daemon stops, ends there.
    taped.api.daemon.stop().unwrap();
    taped.api.daemon.restart().unwrap();
    let evidence = taped.evidence();
    let interrupted = "SELECT count(*) FROM events WHERE status = 'interrupted'";
    assert_eq!(evidence.count(interrupted).unwrap(), 1);
    // All that came is recorded.
    let (found, _) = taped.extracted(&evidence, &session(&evidence), "received");
    assert!(found.len() >= count, "{} of {count}", found.len());
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("came"), &found[..count]).unwrap();
    let summed = run(Command::new("sha256sum").arg(folder.path().join("came")), 60).unwrap();
    assert!(summed.ok().unwrap().starts_with(digest));
}

/// So much is kept of one path, and a digest of another.
const LIMITED: ExtraPolicy<'static> = (
    "limited.cedar",
    r#"
@id("record-some")
@record("120")
forbid (principal, action == Action::"fetch", resource in Path::"api/v1");

@id("record-digest")
@record("digest")
forbid (principal, action in [Action::"fetch", Action::"submit"], resource in Path::"api/text");

@id("record-more")
@record("64KiB")
forbid (principal, action == Action::"fetch", resource == Path::"api/big");
"#,
);

#[test]
fn a_limit_and_a_digest_are_kept_to() {
    let api = Api::ruled(HttpServer::start().unwrap(), &[LIMITED], "");
    let mut digests = Vec::new();
    for path in ["/v1/customers/7", "/text", "/big?mb=1", "/pieces"] {
        let get = format!("curl -sS4 '{}' | sha256sum", api.url(path));
        let told = run(api.agent(READER, "bash").args(["-c", &get]), 60).unwrap().ok().unwrap();
        digests.push(told.split_whitespace().next().unwrap().to_owned());
    }
    wait_until("the sessions ended", 30, || Ok(api.daemon.count("sessions_open")? == 0)).unwrap();
    let evidence = Evidence::seal(&api.daemon).unwrap();
    let sql =
        "SELECT response_sample AS sample, response_sha256 AS digest FROM recordings ORDER BY seq";
    let rows = evidence.duckdb(sql).unwrap();
    let digest = |at: usize| rows[at]["digest"].as_str();
    let sample = |at: usize| rows[at]["sample"].as_str().unwrap_or_default();
    assert_eq!(rows.len(), 4, "{rows:?}");
    for (at, expected) in digests.iter().enumerate().take(3) {
        assert_eq!(digest(at), Some(&**expected), "{at}: {rows:?}");
    }
    assert_eq!(digest(3), None, "policy does not ask for it");
    assert!(
        sample(0).len() == 120 && sample(0).starts_with("HTTP/1.1 200 application/json\n{"),
        "{rows:?}"
    );
    assert_eq!(sample(1), "");
    assert!((60_000..=65_536).contains(&sample(2).len()), "{}", sample(2).len());
    assert!(sample(3).contains(r#""ssn": "***-**-1120""#), "{}", sample(3));
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}
