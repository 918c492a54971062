//! What programs that share no code with this one compute: `tests/conformance` of the repository.

#![expect(clippy::unwrap_used, reason = "a test that fails may end")]

use std::fs;
use std::path::Path;

use archive::key::Signer;
use archive::merkle::Tree;
use archive::note::{self, Checkpoint};
use journal::row::{Column, Kind, Masked, Micros, OwnedValue, Row, Table};
use serde_json::{Value, json};

fn read(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance");
    serde_json::from_str(&fs::read_to_string(folder.join(name)).unwrap()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|d| char::from(b"0123456789abcdef"[usize::from(d)]))
        .collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|d| u8::from_str_radix(str::from_utf8(d).unwrap(), 16).unwrap()).collect()
}

fn value(column: &Column, value: &Value) -> OwnedValue {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    if value.is_null() {
        return OwnedValue::Null;
    }
    match column.kind {
        Kind::Bool => OwnedValue::Bool(value.as_bool().unwrap()),
        Kind::I32 => OwnedValue::I32(value.as_i64().unwrap().try_into().unwrap()),
        Kind::I64 => OwnedValue::I64(value.as_i64().unwrap()),
        Kind::Ts => OwnedValue::Ts(Micros(value.as_i64().unwrap())),
        Kind::Str => OwnedValue::Str(text(value)),
        Kind::Bytes => OwnedValue::Bytes(unhex(value.as_str().unwrap())),
        Kind::StrList => OwnedValue::StrList(value.as_array().unwrap().iter().map(text).collect()),
        Kind::MaskList => {
            let item = |v: &Value| Masked {
                entity: text(&v["entity"]),
                count: v["count"].as_i64().unwrap(),
            };
            OwnedValue::MaskList(value.as_array().unwrap().iter().map(item).collect())
        }
    }
}

#[test]
fn columns_are_the_described_ones() {
    let tables = Table::ALL.iter().map(|table| {
        let columns: Vec<Value> =
            table.columns().iter().map(|c| json!([c.name, c.kind.as_str()])).collect();
        (table.as_str().to_owned(), Value::Array(columns))
    });
    let schema = Value::Object(tables.collect());
    assert_eq!(schema, read("schema.json"), "{schema}");
}

#[test]
fn leaves_root_and_note_are_the_vectors() {
    let vectors = read("vectors.json");
    let mut tree = Tree::default();
    for row in vectors["rows"].as_array().unwrap() {
        let table = Table::ALL.into_iter().find(|t| t.as_str() == row["table"]).unwrap();
        let values = row["values"].as_array().unwrap().iter();
        let values: Vec<OwnedValue> =
            table.columns().iter().zip(values).map(|(c, v)| value(c, v)).collect();
        let leaf = Row::from_values(table, values.into_iter()).unwrap().leaf_hash();
        assert_eq!(hex(&leaf), row["leaf"].as_str().unwrap(), "{row}");
        tree.push(leaf, &mut Vec::new());
    }
    assert_eq!(hex(&tree.root()), vectors["root"].as_str().unwrap());
    let keys = tempfile::tempdir().unwrap();
    fs::write(keys.path().join("n1.key"), unhex(vectors["seed"].as_str().unwrap())).unwrap();
    let signer = Signer::load_or_create(keys.path(), "n1").unwrap();
    assert_eq!(signer.public().line(), vectors["vkey"].as_str().unwrap());
    let origin = "vestibule/node/n1/0".to_owned();
    let checkpoint = Checkpoint { origin, size: tree.size(), root: tree.root(), manifest: [7; 32] };
    let note = signer.sign(&checkpoint).unwrap();
    assert_eq!(note, vectors["note"].as_str().unwrap());
    let text = note::open(&note, signer.public()).unwrap();
    assert_eq!(Checkpoint::parse(text), Some(checkpoint));
    let (size, other) = (format!("\n{}\n", tree.size()), format!("\n{}\n", tree.size() + 1));
    let forged = note.replacen(&size, &other, 1);
    assert!(forged != note && note::open(&forged, signer.public()).is_none());
}
