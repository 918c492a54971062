//! Operators by type and format, plans, and what must hold for any input.

mod catalog;
mod values;

use std::sync::Arc;

use proptest::prelude::*;
use types::command::{
    Access, Action, Analysis, ColumnName, Copy, CopyFormat, Output, Parameter, ParameterValue,
    Risk, Statement, TableName,
};
use types::redact::{
    Column, DataClass, Format, MaskRule, Operator, Redaction, Redactor, Treatment, TreatmentKind,
};
use types::secret::Secret;

use super::recognizer::Kinds;
use super::redactor::{derived, hinted};
use super::{Catalog, Masks, RecognizerKind};
use crate::classification::Classification;

fn classification() -> Classification {
    Classification::parse(
        "[[class]]\nname = \"us_ssn\"\ncolumns = [\"*.ssn\"]\nrecognizer = \"us_ssn\"\n\
         [[class]]\nname = \"card\"\ncolumns = [\"*.pan\"]\nrecognizer = \"card_number\"\n",
    )
    .unwrap()
}

fn redactor(operator: Operator, catalog: Catalog) -> Box<dyn Redactor> {
    let rule = |name: &str| MaskRule { class: DataClass(name.into()), operator };
    let rules = [rule("us_ssn"), rule("card")];
    Masks::compile(&rules, &classification(), &Secret::new([7; 32])).redactor(Arc::new(catalog))
}

/// Table `c` (id, ssn), table `t` (note), and view `v` of `c`, with `x` from `ssn`.
fn catalog() -> Catalog {
    let row = |cells: [&str; 8]| {
        cells.iter().map(|c| (!c.is_empty()).then(|| (*c).to_owned())).collect::<Vec<_>>()
    };
    let rows = [
        row(["c", "20000", "public", "c", "1", "id", "23", ""]),
        row(["c", "20000", "public", "c", "2", "ssn", "25", ""]),
        row(["c", "20001", "public", "t", "1", "note", "25", ""]),
        row(["l", "20005", "public", "u", "2", "", "", ""]),
        row(["c", "20002", "public", "v", "1", "id", "23", ""]),
        row(["c", "20002", "public", "v", "2", "x", "25", ""]),
        row(["d", "20002", "", "", "", "", "20000", ""]),
        row(["v", "20002", "", "", "", "", "", "SELECT id, ssn AS x FROM c"]),
    ];
    let mut catalog = Catalog::from_rows(&classification(), &rows, &Catalog::unknown()).unwrap();
    let outputs = vec![from("c", "id"), from("c", "ssn")];
    catalog.resolve_views(&classification(), |_| Some(outputs.clone()));
    catalog
}

fn from(table: &str, column: &str) -> Output {
    let table = TableName { schema: None, name: table.into() };
    Output::Columns(vec![ColumnName { table, column: column.into() }])
}

fn statement(table: &str, outputs: Option<Vec<Output>>, copy: Option<Copy>) -> Statement {
    let table = Some(TableName { schema: None, name: table.into() });
    let accesses = vec![Access { action: Action::Select, table }];
    let analysis = Analysis::new("SELECT", "", accesses, Risk::empty());
    Statement::new("", Analysis { outputs, copy, ..analysis })
}

fn word(kind: TreatmentKind) -> &'static str {
    match kind {
        TreatmentKind::Mask(at) if at & 0x8000 != 0 => "hinted",
        TreatmentKind::Mask(_) => "mask",
        TreatmentKind::Inspect => "inspect",
        TreatmentKind::Pass => "pass",
    }
}

fn redact(
    operator: Operator,
    kind: TreatmentKind,
    oid: u32,
    format: Format,
    value: &[u8],
) -> Option<String> {
    let mut out = Vec::new();
    let treatment = Treatment { kind, type_oid: oid, modifier: -1, format };
    match redactor(operator, Catalog::unknown()).redact(treatment, value, &mut out) {
        Redaction::Unchanged => Some("=".into()),
        Redaction::Null => None,
        Redaction::Replaced => Some(String::from_utf8(out).unwrap()),
    }
}

#[test]
fn operators() {
    use Format::{Binary, Text};
    use Operator::{Null, Partial, Replace};
    use TreatmentKind::{Inspect, Mask};
    const SSN: Kinds = Kinds::only(RecognizerKind::UsSsn);
    for (operator, kind, oid, format, value, want) in [
        (Replace, Mask(0), 25, Text, "078-05-1120", Some("[us_ssn]")),
        (Partial, Mask(0), 25, Binary, "078-05-1120", Some("***-**-1120")),
        (Partial, Mask(0), 25, Text, "1120", Some("****")),
        (Null, Mask(0), 25, Text, "x", None),
        (Replace, Mask(0), 23, Text, "12", Some("0")),
        (Partial, Mask(0), 20, Text, "4111111111111111", Some("0")),
        (Replace, derived(0), 23, Text, "12", None),
        (Null, Mask(0), 23, Text, "12", None),
        (Replace, Mask(0), 1700, Binary, "12", Some("\0\0\0\0\0\0\0\0")),
        (Replace, Mask(0), 1082, Text, "1985-04-12", Some("1970-01-01")),
        (Replace, Mask(0), 1114, Text, "1985-04-12 01:02:03", Some("1970-01-01 00:00:00")),
        (Replace, Mask(0), 1114, Text, "Fri Apr 12 01:02:03 1985", None),
        (Replace, Mask(0), 16, Text, "t", Some("f")),
        (Replace, Mask(0), 1009, Text, "{a,b}", Some("{}")),
        (Replace, Mask(0), 17, Text, "\\x00", Some("\\x5b75735f73736e5d")),
        (Replace, Mask(0), 2950, Binary, "0123456789abcdef", Some(&"\0".repeat(16))),
        (Replace, Mask(0), 16_500, Text, "a", None),
        (Replace, Mask(0), 3802, Binary, "\u{1}{}", Some("\u{1}\"[us_ssn]\"")),
        (Replace, Mask(0), 114, Text, "{}", Some("\"[us_ssn]\"")),
        (Replace, Inspect, 25, Text, "a 078-05-1120 b", Some("a [us_ssn] b")),
        (Replace, Inspect, 25, Text, "plain", Some("=")),
        (Replace, Inspect, 114, Text, "{\"a\":\"078-05-1120\"}", Some("{\"a\":\"[us_ssn]\"}")),
        (Replace, Inspect, 114, Text, "{\"a\":4111111111111111}", Some("\"[card]\"")),
        (Replace, Inspect, 1009, Text, "{078-05-1120}", Some("{\"[us_ssn]\"}")),
        (
            Replace,
            Inspect,
            1009,
            Text,
            "[0:2]={NULL,\"a \\\"078-05-1120\",{b}}",
            Some("[0:2]={NULL,\"a \\\"[us_ssn]\",{b}}"),
        ),
        (Replace, Inspect, 1009, Text, "{a,\"b\"}", Some("=")),
        (Replace, Inspect, 1009, Text, "{078-05-1120,\"b}", None),
        (Replace, Inspect, 1700, Text, "4111111111111111", None),
        (Replace, Inspect, 1700, Text, "41.50", Some("=")),
        (Replace, Inspect, 199, Text, "{\"078-05-1120\"}", None),
        (Replace, Inspect, 3807, Text, "{\"078-05-1120\"}", None),
        (Replace, Inspect, 16_500, Text, "078-05-1120", None),
        (Replace, Inspect, 0, Binary, "078-05-1120", None),
        (Replace, Mask(0), 0, Binary, "078-05-1120", None),
        (Replace, Inspect, 1700, Binary, "\0\u{2}\0\u{1}\0\0\0\0\u{7}\u{8}\u{7}\u{8}", Some("=")),
        (Replace, Mask(0), 0, Text, "078-05-1120", Some("[us_ssn]")),
        (Replace, Inspect, 142, Text, "<a>078-05-1120</a>", Some("<a>[us_ssn]</a>")),
        (Replace, Inspect, 142, Text, "<a b='078-05-1120'/>", Some("[us_ssn]")),
        (Partial, Mask(0), 142, Text, "<a>1</a>", Some("[us_ssn]")),
        (Null, Inspect, 25, Text, "a 078-05-1120", Some("a [us_ssn]")),
        (Replace, hinted(SSN), 25, Text, "a 078051120", Some("a [us_ssn]")),
        (Replace, hinted(SSN), 23, Text, "178051120", None),
        (Replace, hinted(SSN), 23, Binary, "\u{a}\u{1c}\u{1f}\u{1f}", None),
        (Replace, hinted(SSN), 23, Binary, "\u{0}\u{0}\u{0}\u{7}", Some("=")),
        (Replace, Inspect, 1009, Binary, "..078-05-1120", None),
        (Replace, Inspect, 17, Text, "\\x3037382d30352d31313230", None),
    ] {
        let got = redact(operator, kind, oid, format, value.as_bytes());
        assert_eq!(got.as_deref(), want, "{operator:?} {kind:?} {oid} {format:?} {value}");
    }
}

/// A mask keeps to what its column takes.
#[test]
fn lengths_are_kept() {
    use Operator::{Hash, Partial, Replace};
    use TreatmentKind::{Inspect, Mask};
    const VARCHAR: u32 = 1043;
    const CHAR: u32 = 1042;
    for (operator, kind, oid, length, value, want) in [
        (Replace, Mask(0), VARCHAR, 8, "078-05-1120", "[us_ssn]"),
        (Replace, Mask(0), VARCHAR, 7, "0780511", "*******"),
        (Replace, Mask(0), CHAR, 11, "078-05-1120", "[us_ssn]   "),
        (Replace, Mask(0), CHAR, 3, "078", "***"),
        (Replace, derived(0), VARCHAR, 4, "0780", "****"),
        (Partial, Mask(0), VARCHAR, 11, "078-05-1120", "***-**-1120"),
        (Partial, Mask(0), CHAR, 13, "078-05-1120  ", "***-**-1120  "),
        (Replace, Inspect, VARCHAR, 13, "a 078-05-1120", "a [us_ssn]"),
        (Replace, Inspect, VARCHAR, 19, "4111111111111111 é!", "[card] é!"),
        (Replace, Inspect, 1015, 11, "{078-05-1120,b}", "{\"[us_ssn]\",b}"),
        (Hash, Inspect, VARCHAR, 13, "a 078-05-1120", "a hash:......"),
        (Hash, Inspect, 1015, 11, "{078-05-1120,b}", "{\"hash:......\",b}"),
        (Hash, Mask(0), VARCHAR, 21, "078-05-1120", "hash:................"),
        (Hash, Mask(0), VARCHAR, 20, "078-05-1120", "................"),
        (Hash, Mask(0), VARCHAR, 11, "078-05-1120", "..........."),
        (Hash, Mask(0), CHAR, 20, "078-05-1120", "................    "),
    ] {
        let format = Format::Text;
        let treatment = Treatment { kind, type_oid: oid, modifier: length + 4, format };
        let mut out = Vec::new();
        let redaction =
            redactor(operator, Catalog::unknown()).redact(treatment, value.as_bytes(), &mut out);
        assert_eq!(redaction, Redaction::Replaced, "{operator:?} {value}");
        let got = String::from_utf8(out).unwrap();
        let alike = got.len() == want.len()
            && got
                .bytes()
                .zip(want.bytes())
                .all(|(got, want)| got == want || (want == b'.' && got.is_ascii_hexdigit()));
        assert!(alike, "{operator:?} {value} in {length}: {got:?}, not {want:?}");
    }
}

#[test]
fn a_card_number_in_a_binary_numeric_is_found() {
    // Count, weight, sign, scale and digits, as `numeric_send` writes them.
    let numeric = |digits: &[u16]| {
        let parts = [4, 3, 0, 0].iter().chain(digits);
        parts.flat_map(|part: &u16| part.to_be_bytes()).collect::<Vec<u8>>()
    };
    for (digits, want) in [
        ([4111, 1111, 1111, 1111], Redaction::Null),
        ([4111, 1111, 1111, 1112], Redaction::Unchanged),
    ] {
        let number = numeric(&digits);
        // An array of one, and a row of it, as `array_send` and `record_send` write them.
        let length = 16_u32.to_be_bytes();
        let one = [0, 0, 0, 1];
        let oid = [0, 0, 0x06, 0xa4];
        let array = [&one[..], &[0; 4], &oid, &one, &one, &length, &number].concat();
        let row = [&one[..], &oid, &length, &number].concat();
        for (type_oid, value) in
            [(1700, &number), (0, &number), (1231, &array), (0, &array), (2249, &row)]
        {
            let format = Format::Binary;
            let kind = TreatmentKind::Inspect;
            let treatment = Treatment { kind, type_oid, modifier: -1, format };
            let mut redactor = redactor(Operator::Replace, Catalog::unknown());
            let got = redactor.redact(treatment, value, &mut Vec::new());
            assert_eq!(got, want, "{type_oid} {value:?}");
        }
    }
}

#[test]
fn plans() {
    let opaque = || Some(vec![Output::Opaque]);
    let named = |t, c| Some(vec![from(t, c)]);
    for (known, name, oid, attnum, type_oid, table, outputs, want) in [
        (true, "a", 20000, 2, 25, "c", opaque(), "mask"),
        (true, "a", 20000, 1, 23, "c", opaque(), "pass"),
        (true, "a", 20000, 0, 2249, "c", opaque(), "mask"),
        (true, "a", 20000, 1, 23, "c", named("c", "ssn"), "mask"),
        (true, "a", 20001, 1, 25, "t", opaque(), "inspect"),
        (true, "a", 20001, 1, 25, "t", named("c", "ssn"), "mask"),
        (true, "a", 20001, 1, 25, "t", Some(Vec::new()), "inspect"),
        (true, "ssn", 20001, 1, 25, "t", opaque(), "hinted"),
        (true, "ssn", 20001, 1, 23, "t", opaque(), "hinted"),
        (true, "ssn", 20001, 1, 1082, "t", opaque(), "pass"),
        (true, "phone", 20001, 1, 25, "t", opaque(), "inspect"),
        (true, "a", 20001, 1, 25, "t", named("u", "social_no"), "hinted"),
        (true, "a", 20005, 2, 25, "u", named("u", "social_no"), "hinted"),
        (true, "a", 20005, 3, 25, "u", named("u", "added since"), "mask"),
        (true, "a", 20001, 2, 25, "t", named("t", "note"), "mask"),
        (true, "a", 20001, 1, 25, "t", named("new", "note"), "mask"),
        (true, "a", 0, 0, 25, "u", named("u", "note"), "inspect"),
        (true, "a", 0, 0, 25, "new", named("new", "note"), "mask"),
        (true, "relname", 1259, 2, 19, "pg_class", named("u", "relname"), "inspect"),
        (true, "a", 20002, 1, 23, "v", opaque(), "pass"),
        (true, "a", 20002, 2, 25, "v", opaque(), "mask"),
        (true, "ssn", 20009, 1, 25, "new", opaque(), "mask"),
        (true, "a", 0, 0, 25, "c", opaque(), "mask"),
        (true, "a", 0, 0, 25, "v", None, "mask"),
        (true, "a", 0, 0, 25, "c", Some(vec![from("c", "id"), from("c", "id")]), "mask"),
        (true, "a", 0, 0, 25, "t", opaque(), "inspect"),
        (true, "a", 0, 0, 25, "c", named("c", "ssn"), "mask"),
        (true, "a", 0, 0, 23, "c", named("c", "id"), "pass"),
        (true, "a", 0, 0, 25, "c", named("c", "added since"), "mask"),
        (true, "a", 0, 0, 20, "c", Some(vec![Output::Columns(Vec::new())]), "pass"),
        (false, "a", 0, 0, 25, "t", opaque(), "mask"),
        (false, "a", 20000, 2, 25, "c", named("c", "ssn"), "mask"),
        (false, "a", 20001, 1, 25, "t", named("t", "note"), "mask"),
        (false, "a", 0, 0, 25, "t", named("t", "note"), "mask"),
        (false, "a", 0, 0, 20, "t", Some(vec![Output::Columns(Vec::new())]), "pass"),
        (false, "relname", 1259, 2, 19, "pg_class", None, "inspect"),
    ] {
        let label = format!("{known} {name} {oid} {attnum} {table} {outputs:?}");
        let name = name.as_bytes().to_vec();
        let column =
            Column { name, table_oid: oid, attnum, type_oid, modifier: -1, format: Format::Text };
        let catalog = if known { catalog() } else { Catalog::unknown() };
        let mut treatments = Vec::new();
        let statement = statement(table, outputs, None);
        redactor(Operator::Replace, catalog).plan(&statement, &[column], &mut treatments);
        assert_eq!(word(treatments[0].kind), want, "{label}");
    }
}

#[test]
fn copy_plans() {
    let list = |names: &[&str]| Some(names.iter().map(|n| (*n).into()).collect::<Vec<_>>());
    for (known, table, columns, outputs, count, want) in [
        (true, Some("c"), None, None, 2, "pass mask"),
        (true, Some("c"), list(&["ssn", "id"]), None, 2, "mask pass"),
        (true, Some("c"), list(&["ssn", "id"]), None, 3, "mask mask mask"),
        (true, Some("c"), None, None, 3, "mask mask mask"),
        (true, Some("t"), None, None, 1, "inspect"),
        (true, Some("u"), None, None, 2, "inspect inspect"),
        (true, Some("u"), list(&["ssn"]), None, 1, "mask"),
        (true, Some("elsewhere"), None, None, 1, "mask"),
        (true, Some("elsewhere"), list(&["note"]), None, 1, "mask"),
        (false, Some("t"), None, None, 1, "mask"),
        (false, Some("t"), list(&["note", "ssn"]), None, 2, "mask mask"),
        (true, None, None, Some(vec![from("c", "ssn"), from("t", "note")]), 2, "mask inspect"),
        (true, None, None, None, 1, "mask"),
    ] {
        let label = format!("{known} {table:?} {columns:?} {outputs:?}");
        let name = table.map(|name| TableName { schema: None, name: name.into() });
        let format = CopyFormat::Text;
        let copy = Copy {
            table: name,
            columns,
            format,
            header: false,
            delimiter: b'\t',
            quote: b'"',
            escape: b'"',
            null: None,
        };
        let statement = statement(table.unwrap_or("c"), outputs, Some(copy));
        let catalog = if known { catalog() } else { Catalog::unknown() };
        let mut treatments = Vec::new();
        let mut redactor = redactor(Operator::Replace, catalog);
        redactor.plan_copy(&statement, count, Format::Text, &mut treatments);
        let words: Vec<_> = treatments.iter().map(|t| word(t.kind)).collect();
        assert_eq!(words.join(" "), want, "{label}");
    }
}

#[test]
fn hashes_are_equal_for_equal_values_under_one_key() {
    let hash = |oid, format, value: &str| {
        redact(Operator::Hash, TreatmentKind::Mask(0), oid, format, value.as_bytes()).unwrap()
    };
    let text = hash(25, Format::Text, "078-05-1120");
    assert_eq!(text, hash(25, Format::Binary, "078-05-1120"));
    assert_ne!(text, hash(25, Format::Text, "078-05-1121"));
    assert!(text.starts_with("hash:") && text.len() == 21, "{text}");
    assert_eq!(hash(114, Format::Text, "078-05-1120"), format!("\"{text}\""));
    let uuid = hash(2950, Format::Text, "123e4567-e89b-12d3-a456-426614174000");
    let dashes: Vec<_> = uuid.match_indices('-').map(|(at, _)| at).collect();
    assert_eq!((uuid.len(), dashes), (36, vec![8, 13, 18, 23]));
    let number = hash(23, Format::Text, "1");
    assert!(
        number.parse::<i32>().unwrap() > 1 && number != hash(23, Format::Text, "2"),
        "{number}"
    );
}

#[test]
fn records_and_messages() {
    let rules = [MaskRule { class: DataClass("us_ssn".into()), operator: Operator::Replace }];
    let masks = Masks::compile(&rules, &classification(), &Secret::new([7; 32]));
    assert_eq!(masks.redact_literals("x = '078-05-1120'"), "x = '[us_ssn]'");
    assert!(matches!(masks.redact_literals("x = 078051120"), std::borrow::Cow::Borrowed(_)));
    let check = |value, want| {
        let mut parameter = Parameter { type_oid: 25, value };
        masks.redact_parameter(&mut parameter);
        assert_eq!(parameter.value, want);
    };
    let text = |text: &str, bytes| ParameterValue::Text { text: text.into(), bytes };
    let binary = |head: &[u8], bytes| ParameterValue::Binary { head: head.into(), bytes };
    check(ParameterValue::Null, ParameterValue::Null);
    check(text("a 078-05-1120", 13), text("a [us_ssn]", 13));
    check(text("078051120", 9), text("078051120", 9));
    check(text("7", 8), text("7", 8));
    let long = "é".repeat(60);
    check(text(&format!("{long} 078-05-11"), 2000), text(&"é".repeat(31), 2000));
    check(text(&long, 2000), text(&long, 2000));
    check(binary(b"\x01078-05-1120", 12), binary(b"\x01***********", 12));
    check(binary(&[b'7'; 80], 2000), binary(&[b'7'; 12], 2000));

    let mut redactor = masks.redactor(Arc::new(Catalog::unknown()));
    let mut out = b"kept ".to_vec();
    let got = redactor.redact_text(b"Key (ssn)=(078-05-1120) 078-05-1121", &mut out);
    assert_eq!((got, &out[..]), (Redaction::Replaced, &b"kept Key (ssn)=([us_ssn]) [us_ssn]"[..]));
    assert_eq!(redactor.redact_text(b"none", &mut out), Redaction::Unchanged);
    let counts = redactor.take_counts();
    assert_eq!(counts.len(), 1);
    assert_eq!((&*counts[0].class.0, counts[0].count), ("us_ssn", 2));
    assert!(redactor.take_counts().is_empty());
}

proptest! {
    #[test]
    fn a_valid_ssn_never_survives(
        before in "[ -/:-~]{0,40}", after in "[ -/:-~]{0,40}",
        area in 1u32..666, group in 1u32..100, serial in 1u32..10_000,
    ) {
        let ssn = format!("{area:03}-{group:02}-{serial:04}");
        let text = format!("{before}{ssn}{after}");
        let got = redact(Operator::Replace, TreatmentKind::Inspect, 25, Format::Text, text.as_bytes());
        prop_assert!(got.is_none_or(|got| got != "=" && !got.contains(&ssn)));
    }

    /// Whatever the bytes, what comes out is valid for the type, and nothing is found in it again.
    #[test]
    fn any_bytes(
        value in proptest::collection::vec(prop_oneof![Just(b'@'), Just(b'"'), Just(b'\\'), any::<u8>()], 0..120),
        at in 0usize..120,
        oid in proptest::sample::select(vec![0u32, 17, 25, 114, 142, 1009, 1700, 3802]),
        binary in any::<bool>(),
    ) {
        let mut value = value;
        let at = at.min(value.len());
        value.splice(at..at, *b" 078-05-1120 ");
        let format = if binary { Format::Binary } else { Format::Text };
        let treatment = Treatment { kind: TreatmentKind::Inspect, type_oid: oid, modifier: -1, format };
        let mut out = b"head".to_vec();
        match redactor(Operator::Replace, Catalog::unknown()).redact(treatment, &value, &mut out) {
            Redaction::Replaced => prop_assert!(!out.windows(11).any(|w| w == b"078-05-1120")),
            Redaction::Null => prop_assert_eq!(&out[..], b"head"),
            Redaction::Unchanged => prop_assert!(oid == 17 && !binary && value.starts_with(b"\\x")),
        }
    }

    #[test]
    fn json_stays_json(before in "[ -~]{0,20}", after in "[ -~]{0,20}", number in any::<bool>()) {
        let (before, after) = (before.replace(['"', '\\'], ""), after.replace(['"', '\\'], ""));
        let number = if number { "4111111111111111" } else { "1" };
        let text = format!("{{\"a{before}\": [\"{before} 078-05-1120 {after}\", {number}, null]}}");
        for (oid, format, head) in
            [(114, Format::Text, ""), (3802, Format::Text, ""), (3802, Format::Binary, "\u{1}")]
        {
            let value = format!("{head}{text}");
            let got = redact(Operator::Replace, TreatmentKind::Inspect, oid, format, value.as_bytes());
            let got = got.unwrap();
            let got = got.strip_prefix(head).unwrap();
            prop_assert!(!got.contains("078-05-1120") && balanced(got), "{got}");
        }
    }

    /// What is searched as one text holds no value that is found in its parts.
    #[test]
    fn what_is_clean_is_clean_in_parts(
        cells in proptest::collection::vec(PARTS, 1..8),
        divided in proptest::sample::select(vec!["\t", ",", "\n", "\"", "\",\""]),
        oid in proptest::sample::select(vec![0u32, 17, 25, 114, 142, 1009, 1700]),
    ) {
        let mut redactor = redactor(Operator::Replace, Catalog::unknown());
        if redactor.is_clean(cells.join(divided).as_bytes()) {
            let treatment =
                Treatment { kind: TreatmentKind::Inspect, type_oid: oid, modifier: -1, format: Format::Text };
            for cell in cells {
                let got = redactor.redact(treatment, cell.as_bytes(), &mut Vec::new());
                prop_assert_eq!(got, Redaction::Unchanged, "{}", cell);
            }
        }
    }

    /// A number is found behind any length, in arrays, composites and ranges.
    #[test]
    fn lengths_hide_no_value(
        rest in 0usize..70_000, head in prop_oneof![Just(0usize), 1usize..9], oid in proptest::sample::select(vec![1009u32, 2249, 16_500, 0]),
    ) {
        let element = format!("078-05-1120{}", " ".repeat(rest));
        let mut value = vec![0; head];
        value.extend(u32::try_from(element.len()).unwrap().to_be_bytes());
        value.extend(element.bytes());
        let treatment = Treatment { kind: TreatmentKind::Inspect, type_oid: oid, modifier: -1, format: Format::Binary };
        let got = redactor(Operator::Replace, Catalog::unknown()).redact(treatment, &value, &mut Vec::new());
        prop_assert_eq!(got, Redaction::Null);
    }

    #[test]
    fn fill_keeps_length(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), mask in any::<bool>()) {
        let kind = if mask { TreatmentKind::Mask(0) } else { TreatmentKind::Inspect };
        let treatment = Treatment { kind, type_oid: 25, modifier: -1, format: Format::Text };
        let len = bytes.len();
        redactor(Operator::Replace, Catalog::unknown()).fill(treatment, &mut bytes);
        prop_assert_eq!(bytes.len(), len);
        prop_assert!(!mask || bytes.iter().all(|b| *b == b'*'));
    }
}

/// Cells near to what is recognized.
const PARTS: &str = "([-0-9a-z +.()@{}]{0,12}|078|05-1120|-05-1120|4000|0012 3456 7899|4000 0012|1 \\(415\\) |555-2671|DE89|3704 0044 0532 0130 00|jo|@x|.example.com|078-05-1120){0,3}";

/// Whether a JSON document of these tests is whole: quotes pair, brackets close.
fn balanced(text: &str) -> bool {
    let (mut depth, mut inside) = (0, false);
    for byte in text.bytes() {
        match byte {
            b'"' => inside = !inside,
            b'{' | b'[' if !inside => depth += 1,
            b'}' | b']' if !inside => depth -= 1,
            _ => {}
        }
    }
    depth == 0 && !inside
}
