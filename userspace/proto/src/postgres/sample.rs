//! The head of a response as the agent saw it: a line for each row, tabs between its values.

use types::limits::{RESPONSE_RECORD_BYTES_MAX, RESPONSE_SAMPLE_BYTES_MAX};
use types::redact::{Format, Treatment};

use super::value;
use crate::reader::Reader;

/// Collects until full; costs nothing after that.
#[derive(Debug)]
pub(super) struct Sample {
    bytes: Vec<u8>,
    most: usize,
    full: bool,
}

impl Default for Sample {
    fn default() -> Self {
        Self { bytes: Vec::new(), most: RESPONSE_SAMPLE_BYTES_MAX, full: false }
    }
}

impl Sample {
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// A sample of so many bytes, where it is empty yet.
    pub(super) fn of(most: usize) -> Self {
        let most = most.min(RESPONSE_RECORD_BYTES_MAX);
        Self { most, full: most == 0, ..Self::default() }
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Adds a DataRow's body (from its column count on), already masked.
    pub(super) fn row(&mut self, body: &[u8], columns: &[Treatment]) {
        if self.bytes.is_empty() {
            self.bytes.reserve(body.len().min(self.most));
        }
        let mut reader = Reader::new(body);
        let _count = reader.u16();
        for (at, column) in columns.iter().enumerate() {
            if at > 0 {
                self.push(b"\t");
            }
            match reader.value() {
                Some(Some(value)) => self.value(column, value),
                Some(None) => self.push(br"\N"),
                None => break,
            }
            if self.full {
                return;
            }
        }
        self.push(b"\n");
    }

    /// Adds bytes that are text already (COPY data, masked).
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = self.most - self.bytes.len();
        let head = bytes.get(..room).unwrap_or(bytes);
        self.bytes.extend_from_slice(head);
        self.full |= self.bytes.len() >= self.most;
    }

    fn value(&mut self, column: &Treatment, value: &[u8]) {
        let room = self.most - self.bytes.len();
        match column.format {
            Format::Text => self.text(value),
            Format::Binary => {
                if let Some(text) = value::text(column.type_oid, value) {
                    self.text(text.as_bytes());
                } else {
                    self.push(b"\\x");
                    for byte in value.iter().take(room / 2 + 1) {
                        self.push(format!("{byte:02x}").as_bytes());
                    }
                }
            }
        }
    }

    /// One value stays in its line: tabs and line ends are escaped as COPY does.
    fn text(&mut self, value: &[u8]) {
        let room = self.most - self.bytes.len();
        let mut rest = value.get(..room).unwrap_or(value);
        let escape = |byte: &u8| match byte {
            b'\t' => Some(br"\t"),
            b'\n' => Some(br"\n"),
            b'\r' => Some(br"\r"),
            b'\\' => Some(br"\\"),
            _ => None,
        };
        while let Some((at, escaped)) =
            rest.iter().enumerate().find_map(|(at, byte)| Some((at, escape(byte)?)))
        {
            self.push(rest.get(..at).unwrap_or_default());
            self.push(escaped);
            rest = rest.get(at + 1..).unwrap_or_default();
        }
        self.push(rest);
    }
}
