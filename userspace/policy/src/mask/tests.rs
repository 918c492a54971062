//! Operators by type and format, plans, and what must hold for any input.

use std::sync::Arc;

use proptest::prelude::*;
use types::command::{Access, Action, ColumnName, Output, Risk, Statement, TableName};
use types::redact::{
    Column, DataClass, Format, MaskRule, Operator, Redaction, Redactor, Treatment, TreatmentKind,
};
use types::secret::Secret;

use super::{Catalog, Masks};
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
    Masks::compile(&rules, &classification(), Secret::new([7; 32])).redactor(Arc::new(catalog))
}

fn catalog() -> Catalog {
    let row = |cells: [&str; 8]| {
        cells.iter().map(|c| (!c.is_empty()).then(|| (*c).to_owned())).collect::<Vec<_>>()
    };
    let rows = [
        row(["c", "20000", "public", "c", "1", "id", "23", "r"]),
        row(["c", "20000", "public", "c", "2", "ssn", "25", "r"]),
        row(["c", "20001", "public", "t", "1", "note", "25", "r"]),
        row(["c", "20002", "public", "v", "1", "id", "23", "v"]),
        row(["c", "20002", "public", "v", "2", "x", "25", "v"]),
        row(["d", "20002", "", "", "1", "", "20000", ""]),
        row(["d", "20002", "", "", "2", "", "20000", ""]),
    ];
    Catalog::from_rows(&classification(), &rows).unwrap()
}

fn redact(
    operator: Operator,
    kind: TreatmentKind,
    oid: u32,
    format: Format,
    value: &[u8],
) -> Option<String> {
    let mut out = Vec::new();
    let treatment = Treatment { kind, type_oid: oid, format };
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
    for (operator, kind, oid, format, value, want) in [
        (Replace, Mask(0), 25, Text, "078-05-1120", Some("[us_ssn]")),
        (Partial, Mask(0), 25, Binary, "078-05-1120", Some("***-**-1120")),
        (Partial, Mask(0), 25, Text, "1120", Some("****")),
        (Null, Mask(0), 25, Text, "x", None),
        (Replace, Mask(0), 23, Text, "12", None),
        (Replace, Mask(0), 1700, Binary, "12", None),
        (Replace, Mask(0), 3802, Binary, "\u{1}{}", Some("\u{1}\"[us_ssn]\"")),
        (Replace, Mask(0), 114, Text, "{}", Some("\"[us_ssn]\"")),
        (Replace, Inspect, 25, Text, "a 078-05-1120 b", Some("a [us_ssn] b")),
        (Replace, Inspect, 25, Text, "plain", Some("=")),
        (Replace, Inspect, 114, Text, "{\"a\":\"078-05-1120\"}", Some("{\"a\":\"[us_ssn]\"}")),
        (Replace, Inspect, 114, Text, "{\"a\":4111111111111111}", Some("\"[card]\"")),
        (Replace, Inspect, 1009, Text, "{078-05-1120}", Some("{[us_ssn]}")),
        (Replace, Inspect, 1009, Binary, "..078-05-1120", None),
        (Replace, Inspect, 17, Text, "\\x3037382d30352d31313230", None),
    ] {
        let got = redact(operator, kind, oid, format, value.as_bytes());
        assert_eq!(got.as_deref(), want, "{operator:?} {kind:?} {oid} {format:?} {value}");
    }
}

#[test]
fn plans() {
    let named = |t: &str, c: &str| {
        let table = TableName { schema: None, name: t.into() };
        Output::Columns(vec![ColumnName { table, column: c.into() }])
    };
    let (masked, seen, passed) = ("mask", "inspect", "pass");
    for (known, oid, attnum, type_oid, table, output, want) in [
        (true, 20000, 2, 25, "c", Output::Opaque, masked),
        (true, 20000, 1, 23, "c", Output::Opaque, passed),
        (true, 20000, 0, 2249, "c", Output::Opaque, masked),
        (true, 20001, 1, 25, "t", Output::Opaque, seen),
        (true, 20002, 1, 23, "v", Output::Opaque, passed),
        (true, 20002, 2, 25, "v", Output::Opaque, masked),
        (true, 0, 0, 25, "c", Output::Opaque, masked),
        (true, 0, 0, 25, "v", Output::Opaque, masked),
        (true, 0, 0, 25, "t", Output::Opaque, seen),
        (true, 0, 0, 25, "c", named("c", "ssn"), masked),
        (true, 0, 0, 23, "c", named("c", "id"), passed),
        (true, 0, 0, 20, "c", Output::Columns(Vec::new()), passed),
        (false, 0, 0, 25, "t", Output::Opaque, masked),
        (false, 20000, 2, 25, "c", named("c", "ssn"), masked),
        (false, 20001, 1, 25, "t", named("t", "note"), seen),
    ] {
        let access = Access {
            action: Action::Select,
            table: Some(TableName { schema: None, name: table.into() }),
        };
        let label = format!("{known} {oid} {attnum} {table} {output:?}");
        let statement = Statement {
            text: "".into(),
            normalized: "".into(),
            fingerprint: 0,
            verb: "SELECT",
            accesses: vec![access],
            functions: Vec::new(),
            risks: Risk::empty(),
            outputs: Some(vec![output]),
            copy: None,
        };
        let name = b"col".to_vec();
        let column = Column { name, table_oid: oid, attnum, type_oid, format: Format::Text };
        let catalog = if known { catalog() } else { Catalog::unknown() };
        let mut treatments = Vec::new();
        redactor(Operator::Replace, catalog).plan(&statement, &[column], &mut treatments);
        let got = match treatments[0].kind {
            TreatmentKind::Mask(_) => masked,
            TreatmentKind::Inspect => seen,
            TreatmentKind::Pass => passed,
        };
        assert_eq!(got, want, "{label}");
    }
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

    #[test]
    fn fill_keeps_length(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), mask in any::<bool>()) {
        let kind = if mask { TreatmentKind::Mask(0) } else { TreatmentKind::Inspect };
        let treatment = Treatment { kind, type_oid: 25, format: Format::Text };
        let len = bytes.len();
        redactor(Operator::Replace, Catalog::unknown()).fill(treatment, &mut bytes);
        prop_assert_eq!(bytes.len(), len);
        prop_assert!(!mask || bytes.iter().all(|b| *b == b'*'));
    }
}
