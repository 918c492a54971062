//! The lines of a commit: the Delta protocol's actions, as far as we write them. What is read must be what we would write, to
//! the byte.

use std::collections::BTreeMap;

use journal::row::{Kind, Table};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::here::{Footer, Here};
use crate::{compacted, layout};

/// The property by which no commit takes rows away.
const APPEND_ONLY: &str = "delta.appendOnly";

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Action {
    /// Who can read and write the table.
    Protocol(Protocol),
    /// What the table is.
    MetaData(MetaData),
    /// A file is in the table, in the place of what was said of it before.
    Add(Add),
    /// A file is not in it any more.
    Remove(Remove),
}

/// Least versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Protocol {
    min_reader_version: u32,
    min_writer_version: u32,
}

/// The table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct MetaData {
    pub(crate) id: String,
    format: Format,
    schema_string: String,
    partition_columns: Vec<String>,
    configuration: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Format {
    provider: String,
    options: BTreeMap<String, String>,
}

/// A file of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Add {
    /// Below the table's folder, encoded as in a URI.
    pub(crate) path: String,
    pub(crate) partition_values: BTreeMap<String, Option<String>>,
    pub(crate) size: u64,
    /// When the last of its rows was sealed, milliseconds since 1970 UTC.
    pub(crate) modification_time: i64,
    data_change: bool,
    stats: String,
}

/// A file that is not in the table any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Remove {
    pub(crate) path: String,
    pub(crate) data_change: bool,
}

/// What readers pass over a file by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Stats {
    pub(crate) num_records: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) min_values: Option<Bound>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_values: Option<Bound>,
}

/// The least or greatest time of a row, to the millisecond: down for the least, up for the greatest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bound {
    pub(crate) ts: String,
}

impl Action {
    /// The line, without its end.
    pub(crate) fn line(&self) -> String {
        serde_json::to_string(self).expect("an action is texts and numbers")
    }

    /// What a line says; `None` where it is none that we write.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let action: Self = serde_json::from_str(line).ok()?;
        let is_ours = match &action {
            Self::Protocol(protocol) => *protocol == Protocol::OURS,
            Self::MetaData(meta_data) => meta_data.is_ours(),
            Self::Add(add) => add.is_ours(),
            Self::Remove(remove) => decoded(&remove.path).is_some(),
        };
        (is_ours && action.line() == line).then_some(action)
    }
}

impl Protocol {
    /// What any reader of Delta knows, and `delta.appendOnly`.
    pub(crate) const OURS: Self = Self { min_reader_version: 1, min_writer_version: 2 };
}

impl MetaData {
    pub(crate) fn new(table: Table, id: String, append_only: bool) -> Self {
        Self {
            id,
            format: Format { provider: "parquet".into(), options: BTreeMap::new() },
            schema_string: schema(table),
            partition_columns: vec!["dt".into(), "node".into()],
            configuration: BTreeMap::from([(APPEND_ONLY.into(), append_only.to_string())]),
        }
    }

    /// But for the schema, which may be an older version's: whether it is the table's `is_of` says.
    fn is_ours(&self) -> bool {
        let Self { id, format, schema_string, partition_columns, configuration } = self;
        let is_id = id.len() == 36 && id.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
        let append_only = configuration.get(APPEND_ONLY).map(String::as_str);
        is_id
            && format.provider == "parquet"
            && format.options.is_empty()
            && serde_json::from_str::<serde_json::Value>(schema_string).is_ok()
            && *partition_columns == ["dt", "node"]
            && configuration.len() == 1
            && matches!(append_only, Some("true" | "false"))
    }

    /// Whether its columns are the first ones of the table: all of them, or those of an older version.
    pub(crate) fn is_of(&self, table: Table) -> bool {
        let columns = table.columns().len();
        (table.first_columns()..=columns).any(|count| self.schema_string == schema_of(table, count))
    }
}

impl Add {
    pub(crate) fn new(path: &str, one: &Here, footer: &Footer, data_change: bool) -> Self {
        Self {
            path: path.to_owned(),
            partition_values: partition(path).unwrap_or_default(),
            size: one.size,
            modification_time: one.sealed_ms,
            data_change,
            stats: serde_json::to_string(&footer.stats()).expect("stats are texts and numbers"),
        }
    }

    fn is_ours(&self) -> bool {
        let stats = self.stats();
        let is_canonical = stats.is_some_and(|stats| {
            serde_json::to_string(&stats).is_ok_and(|text| text == self.stats)
        });
        is_canonical && partition(&self.path).is_some_and(|values| values == self.partition_values)
    }

    pub(crate) fn stats(&self) -> Option<Stats> {
        serde_json::from_str(&self.stats).ok()
    }

    /// How many rows it says there are.
    pub(crate) fn rows(&self) -> u64 {
        self.stats().map_or(0, |stats| stats.num_records)
    }
}

/// The partition of a file by its path, encoded, below the table's folder: `dt=DAY/node=NODE/NAME.parquet`.
fn partition(path: &str) -> Option<BTreeMap<String, Option<String>>> {
    let path = decoded(path)?;
    let parts: Vec<&str> = path.split('/').collect();
    let [dt, node, name] = <[&str; 3]>::try_from(parts).ok()?;
    let (dt, node) = (dt.strip_prefix("dt=")?, node.strip_prefix("node=")?);
    let node = (node != compacted::NO_NODE).then(|| node.to_owned());
    (layout::day(dt).is_some() && name.ends_with(".parquet")).then(|| {
        BTreeMap::from([("dt".to_owned(), Some(dt.to_owned())), ("node".to_owned(), node)])
    })
}

/// What of a path is encoded in a URI: all but RFC 3986's unreserved characters, `/` and `=`.
const ENCODED: AsciiSet =
    NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b'=');

/// A path as a URI has it.
pub(crate) fn encoded(path: &str) -> String {
    utf8_percent_encode(path, &ENCODED).to_string()
}

/// The path that was encoded so; `None` where none is, or where it leads elsewhere.
pub(crate) fn decoded(text: &str) -> Option<String> {
    let path = percent_decode_str(text).decode_utf8().ok()?;
    let is_plain = path.split('/').all(|part| !["", ".", ".."].contains(&part));
    (is_plain && encoded(&path) == text).then(|| path.into_owned())
}

/// The table's id: the same for the same files, another one for others.
pub(crate) fn id(table: Table, adds: &[Add]) -> String {
    let mut hash = Sha256::new_with_prefix(b"vestibule/delta/v1\n");
    hash.update(table.as_str());
    for add in adds {
        hash.update(b"\n");
        hash.update(add.path.as_bytes());
        hash.update(add.size.to_be_bytes());
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut number = u128::from_be_bytes(*digest.first_chunk().expect("32 bytes have 16"));
    // A UUID of version 8: made by whoever makes it (RFC 9562, section 5.8).
    number = number & !(0xF << 76) & !(0b11 << 62) | (8 << 76) | (0b10 << 62);
    let text = format!("{number:032x}");
    let parts =
        [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| text.get(part).unwrap_or_default());
    parts.join("-")
}

/// The table's schema in Delta's words.
fn schema(table: Table) -> String {
    schema_of(table, table.columns().len())
}

fn schema_of(table: Table, columns: usize) -> String {
    let own =
        table.columns().iter().take(columns).map(|column| Field::new(column.name, of(column.kind)));
    let partitions = [Field::new("dt", Of::Plain("date")), Field::new("node", Of::Plain("string"))];
    let schema = Of::Struct { r#type: "struct", fields: own.chain(partitions).collect() };
    serde_json::to_string(&schema).expect("a schema is texts")
}

#[derive(Serialize)]
struct Field {
    name: &'static str,
    r#type: Of,
    nullable: bool,
    metadata: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Of {
    Plain(&'static str),
    #[serde(rename_all = "camelCase")]
    Array {
        r#type: &'static str,
        element_type: Box<Of>,
        contains_null: bool,
    },
    Struct {
        r#type: &'static str,
        fields: Vec<Field>,
    },
}

impl Field {
    fn new(name: &'static str, r#type: Of) -> Self {
        Self { name, r#type, nullable: true, metadata: BTreeMap::new() }
    }
}

fn of(kind: Kind) -> Of {
    let list = |element| Of::Array {
        r#type: "array",
        element_type: Box::new(element),
        contains_null: true,
    };
    let plain = match kind {
        Kind::Bool => "boolean",
        Kind::I32 => "integer",
        Kind::I64 => "long",
        Kind::Ts => "timestamp",
        Kind::Str => "string",
        Kind::Bytes => "binary",
        Kind::StrList => return list(Of::Plain("string")),
        Kind::MaskList => {
            let (entity, count) = (Of::Plain("string"), Of::Plain("long"));
            let fields = vec![Field::new("entity", entity), Field::new("count", count)];
            return list(Of::Struct { r#type: "struct", fields });
        }
    };
    Of::Plain(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_encoded_one_way() {
        for (path, text) in [
            ("dt=2026-11-21/node=n1/0-1.parquet", "dt=2026-11-21/node=n1/0-1.parquet"),
            ("node=a b%é", "node=a%20b%25%C3%A9"),
        ] {
            assert_eq!(encoded(path), text);
            assert_eq!(decoded(text).as_deref(), Some(path));
        }
        for none in
            ["a%2", "a%zz", "a%20b%2d", "a b", "../a", "a/./b", "/a", "a//b", "", "%FF", "s3://a"]
        {
            assert_eq!(decoded(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_read_is_what_is_written() {
        let meta_data = MetaData::new(Table::Events, id(Table::Events, &[]), true);
        assert!(meta_data.is_of(Table::Events) && !meta_data.is_of(Table::Control));
        let line = Action::MetaData(meta_data).line();
        assert!(Action::parse(&line).is_some());
        for other in [
            line.replace("\"true\"", "\"yes\""),
            line.replace("parquet", "orc"),
            line.replace("\"id\"", "\"name\":\"x\",\"id\""),
            format!(" {line}"),
            line.replace("{\"metaData\"", "{\"txn\":{},\"metaData\""),
        ] {
            assert_eq!(Action::parse(&other), None, "{other}");
        }
        let remove = r#"{"remove":{"path":"dt=2026-11-21/node=n1/a.parquet","dataChange":true}}"#;
        assert!(Action::parse(remove).is_some());
        assert_eq!(Action::parse(&remove.replace("dt=", "../")), None);
        let add = r#"{"add":{"path":"dt=2026-11-21/node=__HIVE_DEFAULT_PARTITION__/part-0.parquet","partitionValues":{"dt":"2026-11-21","node":null},"size":1,"modificationTime":2,"dataChange":true,"stats":"{\"numRecords\":3}"}}"#;
        assert!(Action::parse(add).is_some());
        for other in [
            add.replace("null", "\"n1\""),
            add.replace("\"2026-11-21\"", "\"2026-11-22\""),
            add.replace("3}", "3,\\\"tightBounds\\\":true}"),
            add.replace("\"size\":1", "\"size\":1,\"deletionVector\":{}"),
        ] {
            assert_eq!(Action::parse(&other), None, "{other}");
        }
    }
}
