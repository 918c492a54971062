//! What is handed out, read by others: DuckDB for CSV, JSON Lines and Parquet, parsers by the letter for syslog and CEF.

#![expect(clippy::unwrap_used, reason = "a test that fails may end")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use archive::export::{self, Lines, Ocsf};
use archive::scan::Filter;
use common::Node;
use journal::row::Table;
use serde_json::{Map, Value};

/// What readers take for an end, an escape or a separator.
const HARD: &str = "SELECT '\"a,b\"', 'c|d=e]f\\g\\n' -- \r\n\tö\u{2028}\u{1}\u{7f} end ";

struct Exported {
    node: Node,
    session: String,
    dir: PathBuf,
}

impl Exported {
    fn new() -> Self {
        let mut node = Node::start(16 * 1024);
        node.session(5);
        let session = node.open();
        for (command, sql) in [HARD, "", " ", "SELECT \u{10348}"].into_iter().enumerate() {
            let command = u32::try_from(command).unwrap() + 1;
            node.begin(session, command, sql);
            node.end(session, command, false);
        }
        node.close(session);
        node.heartbeat();
        node.seal();
        let dir = node.dir.path().join("exported");
        std::fs::create_dir(&dir).unwrap();
        Self { node, session: session.to_string(), dir }
    }

    fn write(&self, table: Table, format: Lines, filter: &Filter) -> String {
        let mut out = Vec::new();
        let count = export::lines(&self.node.archive(), table, filter, format, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let is_lines = format != Lines::Csv;
        assert!(!is_lines || text.matches('\n').count() as u64 == count, "{format:?}");
        text
    }

    fn rows(&self, table: Table) -> Vec<Map<String, Value>> {
        let text = self.write(table, Lines::Json, &Filter::default());
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Runs Python in the folder of what was exported; a failed assertion fails the test.
fn python(dir: &Path, program: &str) -> String {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/venv/bin/python");
    let output = Command::new(python).current_dir(dir).args(["-c", program]).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn duckdb_reads_csv_and_json_lines_as_the_parquet_they_are_of() {
    let exported = Exported::new();
    for table in Table::ALL {
        for (format, name) in [(Lines::Csv, "csv"), (Lines::Json, "jsonl")] {
            let text = exported.write(table, format, &Filter::default());
            std::fs::write(exported.dir.join(format!("{}.{name}", table.as_str())), text).unwrap();
        }
    }
    let said = python(&exported.dir, READ);
    assert!(said.contains("events 10") && said.contains("control 2"), "{said}");
}

/// Every value of every table, by three ways.
const READ: &str = r#"
import duckdb, glob, json
con = duckdb.connect()
con.execute("SET TimeZone = 'UTC'")
for table in ("events", "sessions", "control", "recordings"):
    files = glob.glob(f"../archive/*/v1/table={table}/**/*.parquet", recursive=True)
    kinds = con.execute(f"DESCRIBE SELECT * FROM read_parquet({files}, hive_partitioning = false)").fetchall()
    names = [name for name, *_ in kinds]
    def text(name, kind):
        if kind.startswith("TIMESTAMP"):
            return f"strftime({name}, '%Y-%m-%dT%H:%M:%S.%fZ')"
        if kind == "BLOB":
            return f"lower(hex({name}))"
        if kind.endswith("[]"):
            return f"CAST(to_json({name}) AS VARCHAR)"
        return f'CAST("{name}" AS VARCHAR)'
    picked = ", ".join(text(name, kind) for name, kind, *_ in kinds)
    truth = con.execute(f"SELECT {picked} FROM read_parquet({files}, hive_partitioning = false) ORDER BY seq").fetchall()
    csv = con.execute(f"""SELECT * FROM read_csv('{table}.csv', header = true, all_varchar = true, delim = ',', quote = '"',
        escape = '"', allow_quoted_nulls = false, nullstr = '', strict_mode = true) ORDER BY CAST(seq AS BIGINT)""").fetchall()
    assert [c[0] for c in con.description] == names, names
    def same(one, other, what):
        for left, right in zip(one, other, strict=True):
            for name, a, b in zip(names, left, right, strict=True):
                if a and b and a[0] in "[{" and a[-1] in "]}":
                    a, b = json.loads(a), json.loads(b)
                assert a == b, (what, table, name, a, b)
    same(truth, csv, "csv")
    lines = [json.loads(line) for line in open(f"{table}.jsonl", encoding="utf-8", newline="\n")]
    def plain(value):
        if isinstance(value, bool):
            return "true" if value else "false"
        return json.dumps(value) if isinstance(value, list) else None if value is None else str(value)
    same(truth, [[plain(row[name]) for name in names] for row in lines], "jsonl")
    print(table, len(truth))
"#;

#[test]
fn syslog_is_rfc_5424_to_the_letter_and_has_every_column() {
    let exported = Exported::new();
    for table in Table::ALL {
        let text = exported.write(table, Lines::Syslog, &Filter::default());
        let messages: Vec<&str> = text.split_terminator('\n').collect();
        let rows = exported.rows(table);
        assert_eq!(messages.len(), rows.len());
        for (message, row) in messages.into_iter().zip(rows) {
            let read = syslog(message).unwrap_or_else(|at| panic!("{at}: {message}"));
            let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
            expected.insert("table".into(), vec![table.as_str().into()]);
            for (name, value) in row {
                let values = match value {
                    Value::Null => continue,
                    Value::Array(items) => items.iter().map(item).collect(),
                    value => vec![item(&value)],
                };
                if !values.is_empty() {
                    expected.insert(name, values);
                }
            }
            assert_eq!(read, expected);
        }
    }
}

/// A value as it can stand in a line.
fn item(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Object(masked) => {
            format!("{}:{}", masked["entity"].as_str().unwrap(), masked["count"])
        }
        other => other.to_string(),
    };
    let picture = |c: char| match c {
        '\u{0}'..='\u{1f}' => char::from_u32(c as u32 + 0x2400).unwrap(),
        '\u{7f}' => '\u{2421}',
        '\u{2028}' => '\u{fffd}',
        c => c,
    };
    text.chars().map(picture).collect()
}

/// The parameters of a message (RFC 5424 §6); where it is none, the rest from there.
fn syslog(message: &str) -> Result<BTreeMap<String, Vec<String>>, String> {
    let take = |text: &mut &str, pattern: &str| -> Result<(), String> {
        *text = text.strip_prefix(pattern).ok_or_else(|| (*text).to_owned())?;
        Ok(())
    };
    let word = |text: &mut &str, most: usize| -> Result<String, String> {
        let (word, rest) = text.split_once(' ').ok_or_else(|| (*text).to_owned())?;
        let is_word = !word.is_empty() && word.len() <= most;
        let is_word = is_word && word.bytes().all(|byte| (33..=126).contains(&byte));
        *text = rest;
        if is_word { Ok(word.to_owned()) } else { Err(word.to_owned()) }
    };
    let mut text = message;
    take(&mut text, "<")?;
    let (priority, rest) = text.split_once('>').ok_or("no priority")?;
    let number: u8 = priority.parse().map_err(|_| priority.to_owned())?;
    assert!(number <= 191 && number / 8 == 13);
    text = rest;
    take(&mut text, "1 ")?;
    let time = word(&mut text, 32)?;
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000000Z");
    for most in [255, 48, 128, 32] {
        word(&mut text, most)?;
    }
    take(&mut text, "[vestibule@32473")?;
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    while let Some(rest) = text.strip_prefix(' ') {
        let (name, rest) = rest.split_once("=\"").ok_or_else(|| text.to_owned())?;
        let is_name = (1..=32).contains(&name.len());
        if !is_name || name.contains(|c: char| !c.is_ascii_graphic() || "=]\"".contains(c)) {
            return Err(name.to_owned());
        }
        let (mut value, mut chars) = (String::new(), rest.char_indices());
        let end = loop {
            match chars.next().ok_or("no end of a value")? {
                (at, '"') => break at + 1,
                (_, '\\') => match chars.next().ok_or("no end of a value")? {
                    (_, c @ ('"' | '\\' | ']')) => value.push(c),
                    (_, c) => return Err(format!("\\{c}")),
                },
                (_, ']') => return Err("] in a value".to_owned()),
                (_, c) => value.push(c),
            }
        };
        found.entry(name.to_owned()).or_default().push(value);
        text = rest.get(end..).unwrap();
    }
    take(&mut text, "] \u{feff}")?;
    if text.chars().any(char::is_control) { Err(text.to_owned()) } else { Ok(found) }
}

#[test]
fn cef_is_escaped_to_the_letter() {
    let exported = Exported::new();
    for table in Table::ALL {
        let text = exported.write(table, Lines::Cef, &Filter::default());
        for (line, row) in text.split_terminator('\n').zip(exported.rows(table)) {
            let (header, extension) = cef(line);
            assert_eq!(header[..3], ["CEF:0", "vestibule", "vestibule"]);
            assert!(header[6].parse::<u8>().unwrap() <= 10);
            let id = format!("{}/0/{}", row["node_id"].as_str().unwrap(), row["seq"]);
            assert_eq!(extension["externalId"], id);
            if table == Table::Events {
                let statement = row["statement_norm"].as_str().unwrap();
                let ends = |c: &str| c.replace('\r', "␍").replace('\n', "␊");
                let said = extension.get("msg").map_or("", String::as_str);
                assert_eq!(ends(said), item(&row["statement_norm"]), "{statement:?}");
                assert_eq!(extension["act"], row["decision"].as_str().unwrap());
                assert_eq!(extension["cs2"], row["rule_id"].as_str().unwrap());
                assert_eq!(extension["cs2Label"], "rule");
            }
        }
    }
}

/// Header and extension of a line; keys are letters, digits and what is in them of the standard.
fn cef(line: &str) -> (Vec<String>, BTreeMap<String, String>) {
    let (mut header, mut field, mut chars) = (Vec::new(), String::new(), line.chars());
    while header.len() < 7 {
        match chars.next().unwrap() {
            '|' => header.push(std::mem::take(&mut field)),
            '\\' => field.push(chars.next().filter(|c| ['|', '\\'].contains(c)).unwrap()),
            c => field.push(c),
        }
    }
    let rest: Vec<char> = chars.collect();
    // A key is before an equals sign that is not escaped.
    let mut pairs: Vec<(String, String)> = Vec::new();
    let (mut text, mut at) = (String::new(), 0);
    while let Some(c) = rest.get(at) {
        at += 1;
        match c {
            '\\' => {
                let escaped = rest[at];
                at += 1;
                text.push(match escaped {
                    'n' => '\n',
                    'r' => '\r',
                    c @ ('\\' | '=') => c,
                    c => panic!("\\{c} in {line}"),
                });
            }
            '=' => {
                let (value, key) = text.rsplit_once(' ').unwrap_or(("", &text));
                assert!(!key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric()), "{key}");
                if let Some(last) = pairs.last_mut() {
                    value.clone_into(&mut last.1);
                }
                pairs.push((key.to_owned(), String::new()));
                text.clear();
            }
            c => text.push(*c),
        }
    }
    pairs.last_mut().unwrap().1 = text;
    let count = pairs.len();
    let extension: BTreeMap<String, String> = pairs.into_iter().collect();
    assert_eq!(extension.len(), count, "a key stands twice: {line}");
    (header, extension)
}

#[test]
fn ocsf_is_the_same_in_json_and_parquet_a_class_a_file() {
    let exported = Exported::new();
    let archive = exported.node.archive();
    for format in [Ocsf::Json, Ocsf::Parquet] {
        let files = export::ocsf(&archive, &Filter::default(), format, &exported.dir).unwrap();
        let counts: Vec<u64> = files.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [10], "{files:?}");
    }
    let text = std::fs::read_to_string(exported.dir.join("6005-datastore_activity.jsonl")).unwrap();
    for (line, row) in text.lines().zip(exported.rows(Table::Events)) {
        let event: Value = serde_json::from_str(line).unwrap();
        let number = |name: &str| event[name].as_i64().unwrap();
        assert_eq!(number("type_uid"), number("class_uid") * 100 + number("activity_id"));
        assert_eq!(event["query_info"]["query_string"], row["statement_norm"]);
        assert_eq!(event["actor"]["session"]["uid"], row["session_id"]);
        assert_eq!(event["unmapped"]["bytes_in"], row["bytes_in"]);
        assert!(event["unmapped"].get("session_id").is_none());
    }
    let said = python(&exported.dir, OCSF);
    assert!(said.contains("10 events"), "{said}");
}

const OCSF: &str = r#"
import duckdb, json
lines = [json.loads(line) for line in open("6005-datastore_activity.jsonl", encoding="utf-8", newline="\n")]
con = duckdb.connect()
rows = con.execute("SELECT * FROM '6005-datastore_activity.parquet'").fetchall()
names = [c[0] for c in con.description]
def strip(value):
    if isinstance(value, dict):
        kept = {k: strip(v) for k, v in value.items()}
        kept = {k: v for k, v in kept.items() if v not in (None, {}, [])}
        return kept or None
    if isinstance(value, list):
        return [v["name"] if isinstance(v, dict) else v for v in value]
    return value
for row, line in zip(rows, lines, strict=True):
    read = {k: v for k, v in ((n, strip(v)) for n, v in zip(names, row)) if v is not None}
    read["unmapped"] = json.loads(read["unmapped"])
    expected = {k: v if k == "unmapped" else strip(v) for k, v in line.items()}
    assert read == expected, (read, expected)
print(len(rows), "events")
"#;

#[test]
fn only_what_is_sought_is_handed_out() {
    let exported = Exported::new();
    let count =
        |filter: Filter| exported.write(Table::Events, Lines::Json, &filter).lines().count();
    let all = Filter::default();
    assert_eq!(count(all.clone()), 10);
    let session = exported.session.clone();
    assert_eq!(count(Filter { sessions: vec![session], ..all.clone() }), 4);
    assert_eq!(count(Filter { sessions: vec!["no".into()], ..all.clone() }), 0);
    assert_eq!(count(Filter { agent: Some("reader".into()), ..all.clone() }), 10);
    assert_eq!(count(Filter { agent: Some("writer".into()), ..all.clone() }), 0);
    assert_eq!(count(Filter { decision: Some("deny".into()), ..all.clone() }), 1);
    let times: Vec<String> =
        exported.rows(Table::Events).iter().map(|row| row["ts"].to_string()).collect();
    assert!(times.is_sorted(), "{times:?}");
    // 2026-11-21 23:00 UTC is when the node's clock began.
    let begin = 1_795_302_000_000_000;
    let (before, after) = (
        Filter { until_us: Some(begin), ..all.clone() },
        Filter { from_us: Some(begin), ..all.clone() },
    );
    assert_eq!((count(before), count(after)), (0, 10));
    let sessions = Filter { decision: Some("deny".into()), ..all };
    assert_eq!(exported.write(Table::Sessions, Lines::Json, &sessions), "");
}
