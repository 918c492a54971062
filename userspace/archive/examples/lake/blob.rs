//! The same events as other audit logs keep them in Parquet: five columns to find one by, and the rest of it as JSON in a sixth
//! (Teleport's `lib/events/athena/types.go` has these columns), with zstd as we have it.

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use journal::row::{EventRow, RecordingRow, Table, Value};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::{Work, timed};

/// Rows turned into columns at once.
const BATCH_ROWS: usize = 4096;

/// A file being written.
pub(crate) struct Blob {
    path: PathBuf,
    writer: Option<ArrowWriter<File>>,
    rows: Vec<(EventRow, RecordingRow)>,
    work: Work,
}

impl Blob {
    pub(crate) fn create(dir: &Path, day: i64, node: &str) -> Self {
        let day = archive::layout::date(day);
        let dir = dir.join(format!("dt={day}/node={node}"));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("events.parquet");
        Self { path, writer: None, rows: Vec::with_capacity(BATCH_ROWS), work: Work::default() }
    }

    pub(crate) fn push(&mut self, event: EventRow, recording: RecordingRow) {
        self.rows.push((event, recording));
        if self.rows.len() >= BATCH_ROWS {
            self.write();
        }
    }

    pub(crate) fn finish(mut self) -> Work {
        self.write();
        let ((), cpu) = timed(|| drop(self.writer.take().unwrap().close().unwrap()));
        let bytes = self.path.metadata().unwrap().len();
        self.work.add(Work { bytes, cpu, ..Work::default() });
        self.work
    }

    fn write(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        let ((), cpu) = timed(|| {
            let batch = batch(&rows);
            let writer = self.writer.get_or_insert_with(|| {
                let level = ZstdLevel::try_new(3).unwrap();
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(level))
                    .set_max_row_group_row_count(Some(archive::writer::ROW_GROUP_ROWS));
                let file = File::create(&self.path).unwrap();
                ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).unwrap()
            });
            writer.write(&batch).unwrap();
        });
        let count = rows.len() as u64;
        self.work.add(Work { events: count, rows: count, bytes: 0, cpu });
    }
}

fn batch(rows: &[(EventRow, RecordingRow)]) -> RecordBatch {
    let text = |of: &dyn Fn(&EventRow) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(event, _)| of(event))))
    };
    let user = rows.iter().map(|(event, _)| event.session.actor_user.as_deref());
    let data = rows.iter().map(|(event, recording)| json(event, recording));
    let time = rows.iter().map(|(event, _)| event.ts.0);
    let time = TimestampMicrosecondArray::from_iter_values(time).with_timezone("UTC");
    RecordBatch::try_from_iter([
        ("event_type", text(&|event| event.statement.kind.to_string())),
        ("event_time", Arc::new(time) as ArrayRef),
        (
            "uid",
            text(&|event| {
                format!("{}/{}/{}", event.session.node_id, event.session.log_epoch, event.seq.0)
            }),
        ),
        ("session_id", text(&|event| event.session.session_id.to_string())),
        ("user", Arc::new(user.collect::<StringArray>()) as ArrayRef),
        ("event_data", Arc::new(StringArray::from_iter_values(data)) as ArrayRef),
    ])
    .unwrap()
}

/// What is known of a command, what is absent or empty left out.
fn json(event: &EventRow, recording: &RecordingRow) -> String {
    let mut out = String::from("{");
    let mut names = Table::Events.columns().iter();
    event.visit(&mut |value| put(names.next().expect("a column").name, value, &mut out));
    let RecordingRow { statement, parameters, response_sample, .. } = recording;
    for (name, text) in
        [("statement", statement), ("parameters", parameters), ("response_sample", response_sample)]
    {
        put(name, text.as_deref().map_or(Value::Null, Value::Str), &mut out);
    }
    out.push('}');
    out
}

fn put(name: &str, value: Value<'_>, out: &mut String) {
    let start = out.len();
    if start > 1 {
        out.push(',');
    }
    out.push('"');
    out.push_str(name);
    out.push_str("\":");
    let text = archive::json::text;
    match value {
        Value::Null | Value::StrList([]) | Value::MaskList([]) => out.truncate(start),
        Value::Bool(it) => out.push_str(if it { "true" } else { "false" }),
        Value::I32(it) => out.push_str(&it.to_string()),
        Value::I64(it) => out.push_str(&it.to_string()),
        Value::Ts(it) => text(&archive::json::time(it.0), out),
        Value::Str(it) => text(it, out),
        Value::Bytes(it) => text(&types::hex::hex(it), out),
        Value::StrList(items) => list(items, out, |item, out| text(item, out)),
        Value::MaskList(items) => list(items, out, |item, out| {
            out.push_str("{\"entity\":");
            text(&item.entity, out);
            write!(out, ",\"count\":{}}}", item.count).unwrap();
        }),
    }
}

fn list<T>(items: &[T], out: &mut String, each: impl Fn(&T, &mut String)) {
    for (at, item) in items.iter().enumerate() {
        out.push(if at == 0 { '[' } else { ',' });
        each(item, out);
    }
    out.push(']');
}
