//! The redactor of one session: applies treatments to values.

use std::sync::Arc;

use types::command::Analysis;
use types::redact::{
    Column, Format, MaskCount, Operator, Quotes, Redaction, Redactor, Treatment, TreatmentKind,
};

use super::binary;
use super::catalog::Catalog;
use super::masks::Masks;
use super::nested;
use super::operator::{Shape, fit, shape, width};
use super::recognizer::{Kinds, Scan, find};

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
        add(&mut self.counts, rule);
    }

    fn whole(
        &mut self,
        at: u16,
        treatment: Treatment,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Redaction {
        let rule_at = at & !DERIVED;
        self.count(rule_at);
        let Some(rule) = self.masks.rules.get(usize::from(rule_at)) else { return Redaction::Null };
        let is_own = at & DERIVED == 0;
        let operator = match rule.operator {
            Operator::Partial | Operator::Hash if !is_own => Operator::Replace,
            operator => operator,
        };
        self.masks.whole(rule, operator, is_own, treatment, value, out)
    }

    fn text(
        &mut self,
        treatment: Treatment,
        value: &[u8],
        hint: Kinds,
        out: &mut Vec<u8>,
    ) -> Redaction {
        let Self { masks, counts, .. } = self;
        let before = out.len();
        let found = masks.replace_found(value, hint, out, |at| add(counts, at));
        if found {
            fit(treatment.type_oid, treatment.modifier, before, out);
        }
        if found { Redaction::Replaced } else { Redaction::Unchanged }
    }

    /// The rule of the first value found.
    fn first(&self, value: &[u8], hint: Kinds) -> Option<u16> {
        let mut found = find(value, self.masks.kinds, hint);
        found.find_map(|f| self.masks.rule_of(f.kind)).map(|(at, _)| at)
    }

    fn search(
        &mut self,
        treatment: Treatment,
        hint: Kinds,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Redaction {
        let kinds = self.masks.kinds;
        match shape(treatment.type_oid, treatment.format) {
            Shape::Text => self.text(treatment, value, hint, out),
            // Inside strings, and outside of markup, values are replaced; one found elsewhere
            // replaces the whole document.
            shape @ (Shape::Json { .. } | Shape::Xml) => {
                let Some(first) = self.first(value, hint) else { return Redaction::Unchanged };
                let apart = match shape {
                    Shape::Xml => nested::outside_markup(value, kinds, hint),
                    _ => nested::inside_strings(value, kinds, hint),
                };
                if apart {
                    return self.text(treatment, value, hint, out);
                }
                self.whole(first, treatment, value, out)
            }
            Shape::TextArray => {
                let Self { masks, counts, scratch, .. } = self;
                let room = width(treatment.type_oid, treatment.modifier);
                nested::array(masks, value, hint, room, scratch, out, |at| add(counts, at))
            }
            Shape::Bytes => self.bytes(value, treatment.format, hint),
            Shape::Integer if treatment.format == Format::Binary => self.integer(value, hint),
            Shape::Other if treatment.format == Format::Binary => {
                self.binary(treatment.type_oid, value, hint)
            }
            Shape::Integer | Shape::Plain | Shape::Uuid | Shape::Other => self.null(value, hint),
        }
    }

    /// NULL where anything is found.
    fn null(&mut self, value: &[u8], hint: Kinds) -> Redaction {
        let Some(at) = self.first(value, hint) else { return Redaction::Unchanged };
        self.count(at);
        Redaction::Null
    }

    /// A binary integer, by its decimal digits.
    fn integer(&mut self, value: &[u8], hint: Kinds) -> Redaction {
        let number = match (<[u8; 8]>::try_from(value), <[u8; 4]>::try_from(value)) {
            (Ok(long), _) => i64::from_be_bytes(long),
            (_, Ok(int)) => i64::from(i32::from_be_bytes(int)),
            _ => return Redaction::Unchanged,
        };
        let mut digits = [0u8; 20];
        let (mut at, mut rest) = (digits.len(), number.unsigned_abs());
        while rest > 0 {
            at -= 1;
            if let Some(digit) = digits.get_mut(at) {
                *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            }
            rest /= 10;
        }
        self.null(digits.get(at..).unwrap_or_default(), hint)
    }

    /// A binary number with a fraction, or what is put together from others: arrays, composites,
    /// ranges, types of extensions.
    fn binary(&mut self, type_oid: u32, value: &[u8], hint: Kinds) -> Redaction {
        let mut redaction = self.null(value, hint);
        if redaction == Redaction::Unchanged && type_oid == 0 && !hint.is_empty() {
            redaction = self.integer(value, hint);
        }
        if redaction == Redaction::Unchanged {
            redaction = self.numbers(value, hint);
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        for count in 1..=binary::LENGTH_BYTES {
            if redaction == Redaction::Unchanged
                && binary::without_lengths(value, count, &mut scratch)
            {
                redaction = self.null(&scratch, hint);
            }
        }
        self.scratch = scratch;
        redaction
    }

    /// Numbers with a fraction, wherever they stand in a binary value.
    fn numbers(&mut self, value: &[u8], hint: Kinds) -> Redaction {
        let mut digits = [0; binary::NUMERIC_DIGITS_MAX];
        for number in binary::numbers(value) {
            if let Some(digits) = binary::whole_digits(number, &mut digits)
                && let redaction @ Redaction::Null = self.null(digits, hint)
            {
                return redaction;
            }
        }
        Redaction::Unchanged
    }

    fn bytes(&mut self, value: &[u8], format: Format, hint: Kinds) -> Redaction {
        let Some(digits) = value.strip_prefix(b"\\x").filter(|_| format == Format::Text) else {
            return self.null(value, hint);
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let nibble = |b: u8| char::from(b).to_digit(16).and_then(|n| u8::try_from(n).ok());
        scratch.extend(digits.chunks_exact(2).filter_map(|pair| match pair {
            [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
            _ => None,
        }));
        let redaction = self.null(&scratch, hint);
        self.scratch = scratch;
        redaction
    }
}

/// A text of any length (the OID of `text`: `pg_type.dat`).
const PLAIN_TEXT: Treatment =
    Treatment { kind: TreatmentKind::Inspect, type_oid: 25, modifier: -1, format: Format::Text };

/// What a treatment means here.
enum Means {
    Pass,
    Search(Kinds),
    Whole(u16),
}

/// A search in a column whose name hints at what it holds: the number of no rule, with the hinted
/// kinds as its low bits. A value too large to hold is filled whole.
pub(super) fn hinted(hint: Kinds) -> TreatmentKind {
    TreatmentKind::Mask(HINTED | u16::from(hint.bits()))
}

/// Values computed from masked ones: their ends, or that two are the same, say more of those than the
/// rule lets be seen, so they are replaced or NULL.
pub(super) fn derived(rule: u16) -> TreatmentKind {
    TreatmentKind::Mask(DERIVED | rule)
}

fn means(kind: TreatmentKind) -> Means {
    match kind {
        TreatmentKind::Pass => Means::Pass,
        TreatmentKind::Inspect => Means::Search(Kinds::default()),
        TreatmentKind::Mask(at) if at & HINTED != 0 => {
            let [_, bits] = at.to_be_bytes();
            Means::Search(Kinds::from_bits(bits))
        }
        TreatmentKind::Mask(at) => Means::Whole(at),
    }
}

/// Above the number of any rule: a classification has at most `CLASSES_MAX` = 256 classes.
const HINTED: u16 = 0x8000;

/// Likewise, beside the number of a rule.
const DERIVED: u16 = 0x4000;

fn add(counts: &mut [u64], rule: u16) {
    if let Some(count) = counts.get_mut(usize::from(rule)) {
        *count += 1;
    }
}

impl Redactor for SessionRedactor {
    fn plan(&mut self, statement: &Analysis, columns: &[Column], treatments: &mut Vec<Treatment>) {
        treatments.extend(self.columns(statement, columns));
    }

    fn plan_copy(
        &mut self,
        statement: &Analysis,
        count: usize,
        format: Format,
        treatments: &mut Vec<Treatment>,
    ) {
        treatments.extend(self.copy_columns(statement, count, format));
    }

    fn redact(&mut self, treatment: Treatment, value: &[u8], out: &mut Vec<u8>) -> Redaction {
        match means(treatment.kind) {
            Means::Pass => Redaction::Unchanged,
            Means::Whole(at) => self.whole(at, treatment, value, out),
            Means::Search(hint) => self.search(treatment, hint, value, out),
        }
    }

    fn is_clean(&mut self, text: &[u8]) -> bool {
        // No value holds one of those bytes, nor does one beside it make or unmake a value.
        memchr::memchr(b'\\', text).is_none()
            && find(text, self.masks.kinds, Kinds::default()).next().is_none()
    }

    fn fill(&mut self, treatment: Treatment, piece: &mut [u8]) {
        match treatment.kind {
            TreatmentKind::Pass => {}
            TreatmentKind::Mask(at) => {
                piece.fill(b'*');
                self.count(at & !DERIVED);
            }
            TreatmentKind::Inspect => {
                let mut scan = Scan::new(self.masks.kinds, Kinds::default());
                while let Some(found) = scan.next(piece) {
                    if let Some(part) = piece.get_mut(found.range) {
                        part.fill(b'*');
                    }
                    if let Some((at, _)) = self.masks.rule_of(found.kind) {
                        self.count(at);
                    }
                }
            }
        }
    }

    fn quotes(&mut self, statement: &Analysis) -> Quotes {
        self.quoted_by(statement)
    }

    fn redact_text(&mut self, text: &[u8], out: &mut Vec<u8>) -> Redaction {
        self.text(PLAIN_TEXT, text, Kinds::default(), out)
    }

    fn has_function(&self, name: &str) -> bool {
        self.catalog.has_function(name)
    }

    fn take_counts(&mut self) -> Vec<MaskCount> {
        let rules = self.masks.rules.iter().zip(&mut self.counts).filter(|(_, count)| **count > 0);
        rules
            .map(|(r, count)| MaskCount { class: r.class.clone(), count: std::mem::take(count) })
            .collect()
    }
}
