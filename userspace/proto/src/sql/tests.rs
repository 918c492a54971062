//! Statements and what is said of them; the tables are under `tests/fixtures/sql`.

use proptest::prelude::*;
use types::command::{Action, ColumnName, CopyFormat, Output, PreparedUse, Risk, ValueAt};
use types::limits::STATEMENT_CACHE_TEXT_MAX;

use super::*;

const STANDARD: Reading = Reading { standard_conforming_strings: true };
const ESCAPES: Reading = Reading { standard_conforming_strings: false };

fn all(text: &[u8]) -> Arc<[Arc<Statement>]> {
    Analyzer::new().analyze(text, STANDARD)
}

fn one(text: &str) -> Arc<Statement> {
    let statements = all(text.as_bytes());
    assert_eq!(statements.len(), 1, "{text}");
    Arc::clone(&statements[0])
}

/// Checks every statement of a fixture against what `say` says of it; writes that down instead where
/// `UPDATE_EXPECTED` is set.
fn check(name: &str, least: usize, say: fn(&Statement) -> String) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/sql");
    let path = format!("{folder}/{name}.txt");
    let fixture = std::fs::read_to_string(&path).unwrap();
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        let statements = fixture.lines().filter(|line| !line.starts_with("    =>"));
        let told = statements.map(|line| match line.strip_prefix("--") {
            Some(_) => format!("{line}\n"),
            None => format!("{line}\n    => {}\n", say(&one(line))),
        });
        return std::fs::write(&path, told.collect::<String>()).unwrap();
    }
    let lines: Vec<&str> = fixture.lines().filter(|line| !line.starts_with("--")).collect();
    let cases = lines.chunks_exact(2);
    assert!(cases.remainder().is_empty(), "every statement has its line");
    assert!(cases.len() >= least, "the fixture was cut short");
    for case in cases {
        assert_eq!(format!("    => {}", say(&one(case[0]))), case[1], "{}", case[0]);
    }
}

fn facts(statement: &Statement) -> String {
    let mut accesses: Vec<String> = statement
        .accesses
        .iter()
        .map(|access| match &access.table {
            Some(table) => format!("{} {table}", access.action.as_str()),
            None => access.action.as_str().to_owned(),
        })
        .collect();
    accesses.sort();
    let risks: Vec<String> =
        statement.risks.iter_names().map(|(name, _)| name.to_lowercase()).collect();
    format!("{}: {} [{}]", statement.verb, accesses.join(", "), risks.join(" "))
}

fn columns(columns: &[ColumnName]) -> String {
    let columns: Vec<String> =
        columns.iter().map(|c| format!("{}.{}", c.table, c.column)).collect();
    columns.join(" ")
}

fn probes(statement: &Statement) -> String {
    match columns(&statement.probes) {
        none if none.is_empty() => "none".to_owned(),
        columns => columns,
    }
}

fn outputs(statement: &Statement) -> String {
    let Some(outputs) = &statement.outputs else {
        return "none".to_owned();
    };
    let output = |output: &Output| match output {
        Output::Opaque => "opaque".to_owned(),
        Output::Column(column) => columns(std::slice::from_ref(column)),
        Output::Columns(computed) => format!("{{{}}}", columns(computed)),
        Output::Row(table) => format!("{table}.*"),
        Output::Several(None) => "opaque...".to_owned(),
        Output::Several(Some(computed)) => format!("{{{}}}...", columns(computed)),
    };
    outputs.iter().map(output).collect::<Vec<_>>().join(" ")
}

#[test]
fn statements_do_what_they_do() {
    check("statements", 140, facts);
}

#[test]
fn outputs_come_from_their_columns() {
    check("lineage", 45, outputs);
}

#[test]
fn what_decides_is_probed() {
    check("probes", 100, probes);
}

#[test]
fn what_is_written_by_name_is_named() {
    for (text, written) in [
        ("INSERT INTO s.t (b, a) VALUES (1, 2)", "s.t.a s.t.b"),
        ("INSERT INTO t VALUES (1)", ""),
        ("INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET c = 2", "t.a t.c"),
        ("UPDATE t SET (a, b) = (1, 2), c = d WHERE e = 3", "t.a t.b t.c"),
        ("WITH w AS (UPDATE t SET a = 1 RETURNING b) SELECT b FROM w", "t.a"),
        (
            "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN UPDATE SET b = 1 \
          WHEN NOT MATCHED THEN INSERT (c) VALUES (2)",
            "t.b t.c",
        ),
        ("COPY t (a, b) FROM STDIN", "t.a t.b"),
        ("COPY t (a, b) TO STDOUT", ""),
        ("DELETE FROM t WHERE a = 1", ""),
    ] {
        assert_eq!(columns(&one(text).writes), written, "{text}");
    }
}

#[test]
fn full_exports_are_told_by_their_form() {
    check("exports", 50, |statement| statement.risks.contains(Risk::FULL_EXPORT).to_string());
}

#[test]
fn functions_are_named_as_written() {
    let statement = one("SELECT Lower(a), pg_catalog.upper(b), s.f(c), lower(d) FROM t");
    let names: Vec<&str> = statement.functions.iter().map(|name| &**name).collect();
    assert_eq!(names, ["lower", "pg_catalog.upper", "s.f"]);
}

#[test]
fn a_string_is_cut_into_its_statements() {
    let statements = all("SELECT 'é;'; /* ; */ DELETE FROM t ;; SELECT 2".as_bytes());
    let texts: Vec<&str> = statements.iter().map(|statement| &*statement.text).collect();
    assert_eq!(texts, ["SELECT 'é;'", "DELETE FROM t", "SELECT 2"]);
    assert!(statements.iter().all(|statement| statement.risks.contains(Risk::MULTI)));
    assert_eq!(statements[1].risks, Risk::MULTI | Risk::NO_WHERE);
}

#[test]
fn one_statement_keeps_its_whole_text() {
    let statement = one(" SELECT 1 ; -- end");
    assert_eq!(&*statement.text, " SELECT 1 ; -- end");
    assert_eq!(statement.risks, Risk::empty());
}

#[test]
fn empty_strings_are_one_empty_statement() {
    for text in ["", " \n", ";", "-- nothing"] {
        let statement = one(text);
        assert_eq!(
            (statement.verb, statement.accesses[0].action),
            ("EMPTY", Action::Session),
            "{text:?}"
        );
    }
}

#[test]
fn what_does_not_parse_is_unknown_and_not_shown() {
    for text in [
        &b"SELEC 'secret'"[..],
        b"SELECT 'secret\xff'",
        b"SELECT 'secret'\0; DROP TABLE t",
        b"SELECT 'secret",
    ] {
        let statements = all(text);
        let [statement] = &*statements else { panic!("one statement") };
        assert_eq!(statement.risks, Risk::UNPARSED);
        assert_eq!((statement.verb, &*statement.normalized), ("UNKNOWN", "UNKNOWN"));
        assert_eq!(facts(statement), "UNKNOWN: unknown [unparsed]");
        assert!(statement.needs_wal());
    }
}

#[test]
fn backslashes_are_read_as_the_server_reads_them() {
    let text = br"SELECT '\'; DELETE FROM t; --'";
    let analyzer = Analyzer::new();
    let standard = analyzer.analyze(text, STANDARD);
    let escapes = analyzer.analyze(text, ESCAPES);
    assert_eq!(standard.iter().map(|s| s.verb).collect::<Vec<_>>(), ["SELECT", "DELETE"]);
    assert_eq!(escapes.iter().map(|s| s.verb).collect::<Vec<_>>(), ["SELECT"]);
    assert_eq!(&*escapes[0].normalized, "SELECT", "the scanner cannot strip this");
}

#[test]
fn copy_options_in_either_syntax() {
    let old = one("COPY s.t (a, b) TO STDOUT WITH CSV HEADER DELIMITER ';' NULL 'x'");
    let new = one("COPY s.t (a, b) TO STDOUT (FORMAT csv, HEADER true, DELIMITER ';', NULL 'x')");
    assert_eq!(old.copy, new.copy);
    let copy = new.copy.clone().unwrap();
    assert_eq!(copy.table.unwrap().to_string(), "s.t");
    assert_eq!(copy.columns.unwrap().len(), 2);
    assert_eq!((copy.format, copy.header, copy.delimiter), (CopyFormat::Csv, true, b';'));
    assert_eq!(copy.null.as_deref(), Some("x"));
    assert_eq!(outputs(&new), "s.t.a s.t.b");

    let plain = one("COPY t FROM STDIN").copy.clone().unwrap();
    assert_eq!(
        (plain.format, plain.header, plain.delimiter, plain.null),
        (CopyFormat::Text, false, b'\t', None)
    );
    let binary = one("COPY BINARY t FROM STDIN").copy.clone().unwrap();
    assert_eq!(binary.format, CopyFormat::Binary);
    let query = one("COPY (SELECT email FROM u) TO STDOUT (HEADER off)");
    assert_eq!(outputs(&query), "u.email");
    let copy = query.copy.clone().unwrap();
    assert_eq!((copy.table, copy.header), (None, false));
    assert_eq!(one("COPY t TO PROGRAM 'cat'").copy, None);
}

#[test]
fn normalized_text_has_no_literal() {
    for (text, normalized) in [
        ("SELECT 'secret', 42 /* secret */ -- secret", "SELECT $1, $2"),
        ("SELECT $1, E'secret'", "SELECT $1, $2"),
        ("CREATE ROLE r PASSWORD 'secret'", "CREATE ROLE r PASSWORD $1"),
        ("DO $x$ secret $x$", "DO $1"),
        (
            "SELECT a  FROM t\nWHERE b=U&'secret' UESCAPE '!'",
            "SELECT a FROM t WHERE b=$1 UESCAPE $2",
        ),
        ("SET x.y TO 'secret'", "SET x.y TO $1"),
        ("COMMENT ON TABLE t IS 'secret'", "COMMENT ON TABLE t IS $1"),
        ("SELECT X'5EC4E7', B'01', 1.5e3", "SELECT $1, $2, $3"),
    ] {
        assert_eq!(&*one(text).normalized, normalized, "{text}");
    }
}

#[test]
fn alike_statements_share_a_fingerprint() {
    assert_eq!(
        one("SELECT a FROM t WHERE b = 1").fingerprint,
        one("SELECT a FROM t WHERE b = 2").fingerprint
    );
    assert_ne!(one("SELECT a FROM t").fingerprint, one("SELECT a FROM s.t").fingerprint);
}

/// The statement of `SELECT email || email || …`.
fn chain(links: usize) -> Arc<Statement> {
    one(&format!("SELECT {} FROM u", vec!["email"; links].join(" || ")))
}

#[test]
fn a_thread_with_a_deep_stack_takes_deep_statements() {
    let stack = 64 * 1024 * 1024;
    let deep = std::thread::Builder::new().stack_size(stack).spawn(|| {
        assert_eq!(outputs(&chain(500)), "{u.email}");
        deep_nesting_is_parsed_or_refused();
    });
    deep.unwrap().join().unwrap();
}

#[test]
fn deep_nesting_is_parsed_or_refused() {
    assert_eq!(outputs(&chain(25)), "{u.email}");
    assert_eq!(one(&format!("SELECT {} a FROM t", "NOT ".repeat(58))).verb, "SELECT");
    let long = chain(5_000);
    assert!(long.verb == "SELECT" || long.risks.contains(Risk::UNPARSED));

    for depth in [1_000, 20_000] {
        for (open, close) in
            [("(", ")"), ("(SELECT ", ")"), ("CASE WHEN true THEN ", " END"), ("f(", ")")]
        {
            let statement = one(&format!("SELECT {}1{}", open.repeat(depth), close.repeat(depth)));
            assert!(
                statement.verb == "SELECT" || statement.risks.contains(Risk::UNPARSED),
                "{open} {depth}"
            );
        }
    }
    let unions = one(&format!("SELECT 1 FROM t{}", " UNION SELECT 1 FROM t".repeat(3_000)));
    assert!(unions.verb == "SELECT" || unions.risks.contains(Risk::UNPARSED));
}

#[test]
fn nested_stars_end() {
    let mut text = "WITH c0 AS (SELECT * FROM t)".to_owned();
    for i in 1..200 {
        let before = i - 1;
        text = format!("{text}, c{i} AS (SELECT * FROM c{before} a, c{before} b)");
    }
    let statement = one(&format!("{text} SELECT x FROM c199"));
    assert_eq!(outputs(&statement), "opaque");
}

#[test]
fn too_many_tokens_are_refused() {
    let text = format!("SELECT 1{}", ",1".repeat(200_000));
    assert_eq!(one(&text).risks, Risk::UNPARSED);
}

#[test]
fn known_texts_are_shared_and_long_ones_forgotten() {
    let analyzer = Analyzer::new();
    let first = analyzer.analyze(b"SELECT 1", STANDARD);
    assert!(Arc::ptr_eq(&first, &analyzer.analyze(b"SELECT 1", STANDARD)));
    assert!(!Arc::ptr_eq(&first, &analyzer.analyze(b"SELECT 1", ESCAPES)));
    let long = format!("SELECT '{}'", "x".repeat(STATEMENT_CACHE_TEXT_MAX));
    let first = analyzer.analyze(long.as_bytes(), STANDARD);
    assert!(!Arc::ptr_eq(&first, &analyzer.analyze(long.as_bytes(), STANDARD)));
}

/// Statements with a hole for a literal.
const TEMPLATES: &[&str] = &[
    "SELECT @ FROM t WHERE a = @",
    "INSERT INTO t VALUES (@, @)",
    "ALTER ROLE r PASSWORD @",
    "COPY t FROM STDIN (NULL @)",
    "SET application_name = @",
    "DO @",
    "COMMENT ON TABLE t IS @",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS @",
    "ALTER SYSTEM SET archive_command = @",
    "CREATE SUBSCRIPTION s CONNECTION @ PUBLICATION p",
    "SELECT 1 /* @ */ -- @",
];

#[test]
fn texts_that_differ_in_plain_constants_are_analysed_once() {
    let analyzer = Analyzer::new();
    let one = |text: &str| Arc::clone(&analyzer.analyze(text.as_bytes(), STANDARD)[0]);
    let first = one("SELECT owner FROM accounts WHERE id = 17 AND kind = 'a' LIMIT 3");
    let other = one("SELECT owner FROM accounts WHERE id = 4 AND kind = 'b c' LIMIT 9");
    assert_eq!(&*other.text, "SELECT owner FROM accounts WHERE id = 4 AND kind = 'b c' LIMIT 9");
    assert_eq!(other.normalized, first.normalized);
    // What is known by its shape was not made anew.
    assert!(Arc::ptr_eq(&other.normalized, &first.normalized));
}

/// Constants whose values matter: which column orders, which setting is made, where values go.
#[test]
fn texts_whose_constants_matter_are_read_one_by_one() {
    let analyzer = Analyzer::new();
    for (one, other) in [
        ("SELECT a, b FROM t ORDER BY 1", "SELECT a, b FROM t ORDER BY 2"),
        ("SELECT a, b FROM t GROUP BY 1, b", "SELECT a, b FROM t GROUP BY 2, b"),
        ("SELECT set_config('work_mem', '1', false)", "SELECT set_config('role', '1', false)"),
        ("SELECT format('%s', a) FROM t", "SELECT format('%*s', a) FROM t"),
        ("SELECT replace(a, 'bc', 'd') FROM t", "SELECT replace(a, 'b', 'cd') FROM t"),
        ("SELECT convert_to(a, 'UTF8') FROM t", "SELECT convert_to(a, 'LATIN1') FROM t"),
        (
            "SELECT set_config(name, '', false) FROM pg_settings WHERE name = 'role'",
            "SELECT set_config(name, '', false) FROM pg_settings WHERE name = 'a'",
        ),
        ("SET work_mem = 1", "SET work_mem = 2"),
        ("COPY t TO 'a'", "COPY t TO 'b'"),
    ] {
        let [one, other] =
            [one, other].map(|text| Arc::clone(&analyzer.analyze(text.as_bytes(), STANDARD)[0]));
        assert!(!Arc::ptr_eq(&one.normalized, &other.normalized), "{}", one.text);
    }
}

#[test]
fn what_is_said_of_a_text_holds_for_its_shape() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/sql");
    for name in ["exports", "lineage", "probes", "statements"] {
        let fixture = std::fs::read_to_string(format!("{folder}/{name}.txt")).unwrap();
        for text in fixture.lines().filter(|line| !line.starts_with("    =>")) {
            fuzz::others_of_its_shape(text.as_bytes(), STANDARD);
            fuzz::others_of_its_shape(text.as_bytes(), ESCAPES);
        }
    }
}

/// What each column meets, in words.
fn met(statement: &Statement) -> String {
    let plain = plain_constants(&statement.text);
    let place = |at: u32| usize::try_from(at).unwrap();
    let value = |value: &ValueAt| match *value {
        ValueAt::Parameter(number) => format!("${number}"),
        ValueAt::Plain { at, is_negative: true } => format!("-{}", plain[place(at)]),
        ValueAt::Plain { at, is_negative: false } => plain[place(at)].to_owned(),
        ValueAt::Constant(at) => format!("={}", statement.compared.constants[place(at)]),
    };
    let told = statement.compared.columns.iter().map(|met| {
        let values: Vec<String> = met.values.iter().map(value).collect();
        format!("{}.{}: {}", met.column.table, met.column.column, values.join(" "))
    });
    told.collect::<Vec<_>>().join("; ")
}

#[test]
fn columns_meet_what_they_are_compared_with_and_given() {
    let analyzer = Analyzer::keeping_values();
    for (text, want) in [
        ("SELECT a FROM t WHERE b = 17", "t.b: 17"),
        ("SELECT a FROM t WHERE b = -17 AND c = 'x'", "t.b: -17; t.c: x"),
        ("SELECT a FROM t WHERE b = E'x\\n'", "t.b: =x\n"),
        ("SELECT a FROM t WHERE b = 12345678901", "t.b: =12345678901"),
        ("SELECT a FROM t WHERE lower(b::text) = lower($1)", "t.b: $1"),
        ("SELECT a FROM t WHERE b IN (1, 2) OR c BETWEEN 8 AND 9", "t.b: 1 2; t.c: 8 9"),
        // A text with a dollar sign has no shape: its constants are its own.
        ("SELECT a FROM t WHERE b IN (1, 2) OR c BETWEEN $2 AND 9", "t.b: =1 =2; t.c: $2 =9"),
        ("SELECT a FROM t WHERE (b, c) = (1, 'x')", "t.b: 1; t.c: x"),
        ("SELECT a FROM t WHERE substr(b, 1, 3) = 'abc'", "t.b: abc"),
        ("SELECT a FROM t JOIN (VALUES (5)) v (n) ON v.n = t.b", "t.b: 5"),
        ("WITH q AS (SELECT 5 AS n) SELECT a FROM t, q WHERE t.b = q.n", "t.b: 5"),
        ("SELECT a FROM t WHERE b IN (SELECT 5)", "t.b: 5"),
        ("SELECT CASE b WHEN 5 THEN 6 END FROM t", "t.b: 5"),
        ("SELECT b + 5 FROM t LIMIT 7", "t.b: 5"),
        ("INSERT INTO t (b, c) VALUES (1, 'x'), ($1, 'y')", "t.b: =1 $1; t.c: =x =y"),
        ("INSERT INTO t VALUES (1, 'x')", "t.#1: 1; t.#2: x"),
        ("INSERT INTO t (b, c) SELECT $1, d FROM u WHERE e = 3", "t.b: $1; u.e: =3"),
        ("UPDATE t SET b = 'x' WHERE c = 2", "t.b: x; t.c: 2"),
        ("DELETE FROM t WHERE b = 2 RETURNING 3", "t.b: 2"),
        (
            "MERGE INTO t USING u ON t.b = u.b WHEN NOT MATCHED THEN INSERT (b, c) VALUES (1, 'x')",
            "t.b: 1; t.c: x",
        ),
        ("SELECT a FROM t, u WHERE b = 17", "t.?b: 17; u.?b: 17"),
        ("SELECT 17", ""),
    ] {
        let one = &analyzer.analyze(text.as_bytes(), STANDARD)[0];
        assert!(!one.compared.is_cut, "{text}");
        assert_eq!(met(one), want, "{text}");
    }
    // The same for texts of one shape, with their own values; nothing where nobody wants to know.
    let other = &analyzer.analyze(b"SELECT a FROM t WHERE b = 99", STANDARD)[0];
    assert_eq!(met(other), "t.b: 99");
    assert_eq!(met(&one("SELECT a FROM t WHERE b = 17")), "");
}

#[test]
fn an_execute_meets_its_arguments() {
    let analyzer = Analyzer::keeping_values();
    let one = |text: &str| Arc::clone(&analyzer.analyze(text.as_bytes(), STANDARD)[0]);
    let prepare = one("PREPARE q (int) AS SELECT a FROM t WHERE b = $1 AND c = 5 AND d = E'x'");
    let Some(PreparedUse::Prepares { statement, .. }) = &prepare.prepared else { panic!() };
    let run = executing(&one("EXECUTE q(17)"), statement).unwrap();
    assert_eq!(met(&run), "t.b: 17; t.c: =5; t.d: =x");
}

#[test]
fn more_values_than_are_kept_are_said() {
    let analyzer = Analyzer::keeping_values();
    let many: Vec<String> = (0..2_000).map(|n| n.to_string()).collect();
    for text in [
        format!("SELECT a FROM t WHERE b IN ({})", many.join(",")),
        format!("INSERT INTO t (b) VALUES ({})", many.join("),(")),
    ] {
        let one = &analyzer.analyze(text.as_bytes(), STANDARD)[0];
        let kept: usize = one.compared.columns.iter().map(|met| met.values.len()).sum();
        assert!(kept >= 512, "{kept}");
        assert!(one.compared.is_cut || kept == 2_000);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(!all(&bytes).is_empty());
    }

    #[test]
    fn arbitrary_sql_words_never_panic(words in proptest::collection::vec(
        prop::sample::select(vec!["SELECT", "*", "FROM", "t", "u", ".", ",", "(", ")", "WITH", "RECURSIVE", "AS", "JOIN",
            "ON", "a", "=", "1", "'x'", "UPDATE", "SET", "INSERT", "INTO", "VALUES", "DELETE", "RETURNING", "UNION", ";",
            "WHERE", "EXISTS", "LATERAL", "COPY", "TO", "STDOUT", "EXPLAIN", "CREATE", "TABLE", "DROP", "USING"]), 0..30)) {
        prop_assert!(!all(words.join(" ").as_bytes()).is_empty());
    }

    #[test]
    fn no_literal_survives(secret in "[a-z]{3}[0-9]{9}[a-z]{3}", template in prop::sample::select(TEMPLATES), quote in 0..3) {
        let literal = match quote {
            0 => format!("'{secret}'"),
            1 => format!("E'\\n{secret}'"),
            _ => format!("$q${secret}$q$"),
        };
        for statement in all(template.replace('@', &literal).as_bytes()).iter() {
            prop_assert!(!statement.normalized.contains(&secret), "{}", statement.normalized);
        }
    }
}
