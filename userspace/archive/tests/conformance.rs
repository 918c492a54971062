//! What programs that share no code with this one compute: `tests/conformance` of the repository.

#![expect(clippy::unwrap_used, reason = "a test that fails may end")]

use std::fs;
use std::path::Path;

use archive::key::Signer;
use archive::merkle::Tree;
use archive::note::{self, Checkpoint};
use journal::row::{Column, Kind, Masked, Micros, OwnedValue, Row, Table};
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

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

/// The auditors' contract: SHA-256 of each version's text in `docs/schema`. None of them ever changes.
const SCHEMAS: [&str; 1] = ["5bb52b8fcddc0e5975321cae07b9a31a9bead5f8e20403ef19c19735bb667e3e"];

#[test]
fn the_schema_is_the_published_one_of_its_version() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema");
    let published: Vec<String> = (1..=SCHEMAS.len())
        .map(|version| fs::read_to_string(folder.join(format!("v{version}.json"))).unwrap())
        .collect();
    for (version, (text, due)) in (1..).zip(published.iter().zip(SCHEMAS)) {
        let digest = hex(&Sha256::digest(text));
        assert_eq!(digest, due, "docs/schema/v{version}.json was published and must not change");
    }
    let now = archive::schema::text().unwrap();
    assert_eq!(usize::try_from(archive::schema::VERSION).unwrap(), SCHEMAS.len());
    assert!(
        published.last() == Some(&now),
        "the tables' schema changed: raise archive::schema::VERSION, put what `cargo run -p archive --example schema` prints \
         into docs/schema as the next version, and its SHA-256 into SCHEMAS"
    );
    // What is written is what is said, down to the field ids of what is in lists.
    let parsed: Value = serde_json::from_str(&now).unwrap();
    for table in Table::ALL {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        let file = archive::writer::TableFile::create(table, dir.path().join("a"), "o").unwrap();
        file.finish(|_| path.clone()).unwrap();
        let reader = SerializedFileReader::new(fs::File::open(&path).unwrap()).unwrap();
        let of = reader.metadata().file_metadata();
        let said =
            parsed["tables"].as_array().unwrap().iter().find(|t| t["name"] == table.as_str());
        let columns = said.unwrap()["columns"].as_array().unwrap();
        let said: Vec<_> = columns
            .iter()
            .flat_map(|column| column["leaves"].as_array().unwrap())
            .map(|leaf| {
                (leaf["path"].as_str().unwrap().to_owned(), leaf["field_id"].as_i64().unwrap())
            })
            .collect();
        let written: Vec<_> = of
            .schema_descr()
            .columns()
            .iter()
            .map(|leaf| (leaf.path().string(), i64::from(leaf.self_type().get_basic_info().id())))
            .collect();
        assert_eq!(said, written, "{}", table.as_str());
        let key =
            |key: &str| of.key_value_metadata()?.iter().find(|kv| kv.key == key)?.value.clone();
        assert_eq!(key("vestibule.schema"), Some(archive::schema::VERSION.to_string()));
    }
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
