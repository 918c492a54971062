//! Rows in COPY data on its way to the server, counted where they begin. In doubt there are more.
//!
//! What a line is, is the server's reading (PostgreSQL documentation, COPY, "File Formats").

use types::command::{Copy, CopyFormat};

/// Counts the rows of one COPY FROM STDIN.
#[derive(Debug)]
pub(super) enum CopyIn {
    Lines(Lines),
    Binary(Tuples),
}

impl CopyIn {
    /// For the data of a `copy`; `None` where the statement is not known, or its bytes may stand for other
    /// characters than they seem to: then every end of a line ends a row.
    pub(super) fn new(copy: Option<&Copy>, binary: bool) -> Self {
        if binary {
            return Self::Binary(Tuples { skip: SIGNATURE_AND_FLAGS, ..Tuples::default() });
        }
        let mut lines = Lines::default();
        if let Some(copy) = copy {
            lines.header = copy.header;
            lines.form = match copy.format {
                CopyFormat::Csv => {
                    let escape = Some(copy.escape).filter(|escape| *escape != copy.quote);
                    Form::Csv { quote: copy.quote, escape }
                }
                CopyFormat::Text | CopyFormat::Binary => Form::Text,
            };
        }
        Self::Lines(lines)
    }

    /// How many rows begin in `data`, which follows what was fed before.
    pub(super) fn feed(&mut self, data: &[u8]) -> u64 {
        match self {
            Self::Lines(lines) => lines.feed(data),
            Self::Binary(tuples) => tuples.feed(data),
        }
    }
}

/// The rows of the text formats.
#[derive(Debug, Default)]
pub(super) struct Lines {
    form: Form,
    /// The first line is none.
    header: bool,
    at: At,
    /// CSV: within quotes.
    quoted: bool,
    /// The byte before takes this one's meaning.
    escaped: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum Form {
    /// Not known.
    #[default]
    Any,
    Text,
    Csv {
        quote: u8,
        escape: Option<u8>,
    },
}

/// Where in a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Start,
    /// Behind a carriage return that ended one.
    Return,
    /// Behind a backslash that begins one: it may be the end marker `\.`.
    Backslash,
    Dot,
    Within,
}

impl Lines {
    fn feed(&mut self, data: &[u8]) -> u64 {
        let mut rows = 0;
        for byte in data {
            rows += u64::from(self.take(*byte));
        }
        if rows > 0 && std::mem::take(&mut self.header) {
            rows -= 1;
        }
        rows
    }

    /// Takes one byte; true if it is known by it that a row began.
    fn take(&mut self, byte: u8) -> bool {
        match (self.at, byte) {
            (At::Return, b'\n') => {
                self.at = At::Start;
                false
            }
            (At::Start | At::Return, b'\\') if matches!(self.form, Form::Text) => {
                self.at = At::Backslash;
                false
            }
            (At::Backslash, b'.') => {
                self.at = At::Dot;
                false
            }
            (At::Backslash, _) => {
                // What the backslash escapes.
                self.at = At::Within;
                true
            }
            (At::Dot, b'\n' | b'\r') => {
                self.at = if byte == b'\r' { At::Return } else { At::Start };
                false
            }
            (At::Start | At::Return | At::Dot, _) => {
                self.within(byte);
                true
            }
            (At::Within, _) => {
                self.within(byte);
                false
            }
        }
    }

    fn within(&mut self, byte: u8) {
        self.at = At::Within;
        match self.form {
            Form::Any => {}
            Form::Text => {
                if std::mem::take(&mut self.escaped) {
                    return;
                }
                self.escaped = byte == b'\\';
            }
            Form::Csv { quote, escape } => {
                let escapes = Some(byte) == escape;
                if self.quoted && escapes {
                    self.escaped = !self.escaped;
                }
                if byte == quote && !self.escaped {
                    self.quoted = !self.quoted;
                }
                self.escaped &= escapes;
            }
        }
        match byte {
            b'\n' if !self.quoted => self.at = At::Start,
            b'\r' if !self.quoted => self.at = At::Return,
            _ => {}
        }
    }
}

/// `PGCOPY\n\377\r\n\0` and the flags, before the length of the header's extension.
const SIGNATURE_AND_FLAGS: u32 = 11 + 4;

/// The rows of the binary format.
#[derive(Debug, Default)]
pub(super) struct Tuples {
    /// Bytes that mean nothing here.
    skip: u32,
    part: Part,
    /// The number that is being read, and how many bytes of it were.
    number: u32,
    read: u8,
    /// Fields of the tuple still to come.
    fields: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    /// The length of the header's extension.
    #[default]
    Extension,
    /// A tuple's number of fields.
    Count,
    /// A field's length.
    Length,
    /// Behind the end, or what the server refuses.
    Ended,
}

impl Tuples {
    fn feed(&mut self, mut data: &[u8]) -> u64 {
        let mut rows = 0;
        while let Some((byte, rest)) = data.split_first()
            && self.part != Part::Ended
        {
            if self.skip > 0 {
                let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(data.len());
                data = data.get(skipped..).unwrap_or_default();
                self.skip -= u32::try_from(skipped).unwrap_or(self.skip);
                continue;
            }
            data = rest;
            self.number = self.number << 8 | u32::from(*byte);
            self.read += 1;
            if self.read == if self.part == Part::Count { 2 } else { 4 } {
                self.read = 0;
                rows += u64::from(self.end_number());
            }
        }
        rows
    }

    /// Takes the number that was read; true if a tuple begins with it.
    fn end_number(&mut self) -> bool {
        let number = std::mem::take(&mut self.number);
        match self.part {
            Part::Extension => {
                self.skip = number;
                self.part = Part::Count;
            }
            // -1 is the end.
            Part::Count if number >= 1 << 15 => self.part = Part::Ended,
            Part::Count => {
                self.fields = number;
                self.part = if number == 0 { Part::Count } else { Part::Length };
                return true;
            }
            Part::Length => {
                // -1 is NULL.
                self.skip = if number < 1 << 31 { number } else { 0 };
                self.fields -= 1;
                if self.fields == 0 {
                    self.part = Part::Count;
                }
            }
            Part::Ended => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn copy(format: CopyFormat, header: bool, quote: u8, escape: u8) -> Copy {
        let (table, columns, null) = (None, None, None);
        Copy { table, columns, format, header, delimiter: b',', quote, escape, null }
    }

    fn rows(copy: Option<&Copy>, data: &[u8]) -> u64 {
        let whole = CopyIn::new(copy, false).feed(data);
        let mut pieces = CopyIn::new(copy, false);
        let counted: u64 = data.chunks(1).map(|piece| pieces.feed(piece)).sum();
        assert_eq!(counted, whole, "{data:?}");
        whole
    }

    #[test]
    fn lines_are_rows() {
        let text = copy(CopyFormat::Text, false, b'"', b'"');
        let csv = copy(CopyFormat::Csv, false, b'"', b'"');
        let headed = copy(CopyFormat::Csv, true, b'"', b'"');
        let escaped = copy(CopyFormat::Csv, false, b'"', b'\\');
        for (of, data, count) in [
            (&text, "1\ta\n2\tb\n", 2),
            (&text, "1\n\n3", 3),
            (&text, "1\r\n2\r\n", 2),
            (&text, "1\r2\r", 2),
            (&text, "1\\\n1\n2\\\\\n3\n", 3),
            (&text, "1\n\\.\n", 1),
            (&text, "\\N\n\\\\.\n\\.x\n", 3),
            (&csv, "1,\"a\nb\"\n2,\"\"\"\n\"\n", 2),
            (&csv, "\\.\n", 1),
            (&headed, "id,name\n1,a\n", 1),
            (&escaped, "\"a\\\"\nb\"\n\"\\\\\"\n2\n", 3),
            (&escaped, "\\\"a\nb\"\n", 1),
        ] {
            assert_eq!(rows(Some(of), data.as_bytes()), count, "{of:?} {data:?}");
        }
        assert_eq!(rows(None, b"\"a\nb\"\n\\.\n\\\nx"), 5);
    }

    fn binary(tuples: &[Vec<Option<Vec<u8>>>], extension: &[u8]) -> Vec<u8> {
        let length = |bytes: usize| i32::try_from(bytes).unwrap().to_be_bytes();
        let mut out = b"PGCOPY\n\xff\r\n\0\0\0\0\0".to_vec();
        out.extend(length(extension.len()));
        out.extend(extension);
        for tuple in tuples {
            out.extend(i16::try_from(tuple.len()).unwrap().to_be_bytes());
            for field in tuple {
                out.extend(field.as_ref().map_or((-1_i32).to_be_bytes(), |f| length(f.len())));
                out.extend(field.iter().flatten());
            }
        }
        out.extend((-1_i16).to_be_bytes());
        out
    }

    proptest! {
        #[test]
        fn tuples_are_rows(
            tuples in prop::collection::vec(prop::collection::vec(any::<Option<Vec<u8>>>(), 0..4), 0..9),
            extension in prop::collection::vec(any::<u8>(), 0..9),
            cut in 1..40_usize,
        ) {
            let data = binary(&tuples, &extension);
            let mut counter = CopyIn::new(None, true);
            let counted: u64 = data.chunks(cut).map(|piece| counter.feed(piece)).sum();
            prop_assert_eq!(counted, tuples.len() as u64);
            prop_assert_eq!(counter.feed(&data), 0);
        }

        #[test]
        fn no_reading_has_more_rows_than_ends_of_lines(data in "[a\\\\.\"\n\r]{0,40}") {
            let any = rows(None, data.as_bytes());
            for format in [CopyFormat::Text, CopyFormat::Csv] {
                let known = rows(Some(&copy(format, false, b'"', b'"')), data.as_bytes());
                prop_assert!(known <= any, "{:?}", data);
            }
        }
    }
}
