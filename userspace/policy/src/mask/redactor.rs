//! The redactor of one session: applies treatments to values.

use std::sync::Arc;

use types::command::Statement;
use types::redact::{Column, Format, MaskCount, Redaction, Redactor, Treatment, TreatmentKind};

use super::catalog::Catalog;
use super::masks::Masks;
use super::operator::{Shape, shape};
use super::recognizer::{Kinds, find};

/// One session's redactor.
pub(super) struct SessionRedactor {
    pub(super) masks: Arc<Masks>,
    pub(super) catalog: Arc<Catalog>,
    counts: Vec<u64>,
    scratch: Vec<u8>,
}

impl SessionRedactor {
    pub(super) fn new(masks: Arc<Masks>, catalog: Arc<Catalog>) -> Self {
        let counts = vec![0; masks.rules.len()];
        Self { masks, catalog, counts, scratch: Vec::new() }
    }

    fn count(&mut self, rule: u16) {
        if let Some(count) = self.counts.get_mut(usize::from(rule)) {
            *count += 1;
        }
    }

    fn whole(
        &mut self,
        at: u16,
        treatment: Treatment,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Redaction {
        self.count(at);
        let Some(rule) = self.masks.rules.get(usize::from(at)) else { return Redaction::Null };
        let shape = shape(treatment.type_oid, treatment.format);
        self.masks.whole(rule, shape, treatment.format, value, out)
    }

    fn text(&mut self, value: &[u8], out: &mut Vec<u8>) -> Redaction {
        let Self { masks, counts, .. } = self;
        let found = masks.replace_found(value, Kinds::default(), out, |at| {
            if let Some(count) = counts.get_mut(usize::from(at)) {
                *count += 1;
            }
        });
        if found { Redaction::Replaced } else { Redaction::Unchanged }
    }

    /// The rule of the first value found.
    fn first(&self, value: &[u8]) -> Option<u16> {
        let mut found = find(value, self.masks.kinds, Kinds::default());
        found.find_map(|f| self.masks.rule_of(f.kind)).map(|(at, _)| at)
    }

    /// Inside strings values are replaced; one found elsewhere replaces the whole document.
    fn json(&mut self, treatment: Treatment, value: &[u8], out: &mut Vec<u8>) -> Redaction {
        let Some(first) = self.first(value) else { return Redaction::Unchanged };
        if findings_in_strings(value, self.masks.kinds) {
            return self.text(value, out);
        }
        self.whole(first, treatment, value, out)
    }

    fn bytes(&mut self, value: &[u8], format: Format) -> Redaction {
        let found = match value.strip_prefix(b"\\x").filter(|_| format == Format::Text) {
            None => self.first(value),
            Some(digits) => {
                let mut scratch = std::mem::take(&mut self.scratch);
                scratch.clear();
                let nibble = |b: u8| char::from(b).to_digit(16).and_then(|n| u8::try_from(n).ok());
                scratch.extend(digits.chunks_exact(2).filter_map(|pair| match pair {
                    [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
                    _ => None,
                }));
                let found = self.first(&scratch);
                self.scratch = scratch;
                found
            }
        };
        let Some(at) = found else { return Redaction::Unchanged };
        self.count(at);
        Redaction::Null
    }
}

impl Redactor for SessionRedactor {
    fn plan(&mut self, statement: &Statement, columns: &[Column], treatments: &mut Vec<Treatment>) {
        treatments.extend(columns.iter().enumerate().map(|(at, c)| self.column(statement, at, c)));
    }

    fn plan_copy(
        &mut self,
        statement: &Statement,
        count: usize,
        format: Format,
        treatments: &mut Vec<Treatment>,
    ) {
        treatments.extend((0..count).map(|at| self.copy_column(statement, at, count, format)));
    }

    fn redact(&mut self, treatment: Treatment, value: &[u8], out: &mut Vec<u8>) -> Redaction {
        match treatment.kind {
            TreatmentKind::Pass => Redaction::Unchanged,
            TreatmentKind::Mask(at) => self.whole(at, treatment, value, out),
            TreatmentKind::Inspect => match shape(treatment.type_oid, treatment.format) {
                Shape::Json { .. } => self.json(treatment, value, out),
                Shape::Bytes => self.bytes(value, treatment.format),
                Shape::Text => self.text(value, out),
                Shape::Other if treatment.format == Format::Text => self.text(value, out),
                Shape::Plain | Shape::Uuid | Shape::Other => {
                    let Some(at) = self.first(value) else { return Redaction::Unchanged };
                    self.count(at);
                    Redaction::Null
                }
            },
        }
    }

    fn fill(&mut self, treatment: Treatment, piece: &mut [u8]) {
        match treatment.kind {
            TreatmentKind::Pass => {}
            TreatmentKind::Mask(at) => {
                piece.fill(b'*');
                self.count(at);
            }
            TreatmentKind::Inspect => {
                let mut from = 0;
                while let Some(rest) = piece.get(from..) {
                    let Some(found) = find(rest, self.masks.kinds, Kinds::default()).next() else {
                        return;
                    };
                    let (start, end) = (from + found.range.start, from + found.range.end);
                    if let Some(part) = piece.get_mut(start..end) {
                        part.fill(b'*');
                    }
                    if let Some((at, _)) = self.masks.rule_of(found.kind) {
                        self.count(at);
                    }
                    from = end;
                }
            }
        }
    }

    fn redact_text(&mut self, text: &[u8], out: &mut Vec<u8>) -> Redaction {
        self.text(text, out)
    }

    fn take_counts(&mut self) -> Vec<MaskCount> {
        let rules = self.masks.rules.iter().zip(&mut self.counts).filter(|(_, count)| **count > 0);
        rules
            .map(|(r, count)| MaskCount { class: r.class.clone(), count: std::mem::take(count) })
            .collect()
    }
}

/// Whether every value found stands within one JSON string, and does not start inside an escape.
fn findings_in_strings(value: &[u8], kinds: Kinds) -> bool {
    let (mut at, mut inside, mut escaped) = (0, false, false);
    for found in find(value, kinds, Kinds::default()) {
        for byte in value.get(at..found.range.start).unwrap_or_default() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if inside => escaped = true,
                b'"' => inside = !inside,
                _ => {}
            }
        }
        let part = value.get(found.range.clone()).unwrap_or_default();
        let after_u = value.get(found.range.start.saturating_sub(6)..found.range.start);
        let escape = escaped || after_u.is_some_and(|b| b.windows(2).any(|w| w == b"\\u"));
        if !inside || escape || part.contains(&b'"') || part.contains(&b'\\') {
            return false;
        }
        at = found.range.end;
    }
    true
}
