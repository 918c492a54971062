//! The fuzzer's way in: one value under one treatment, and what must hold of what becomes of it.

use std::sync::{Arc, LazyLock};

use types::redact::{
    DataClass, Format, MaskRule, Operator, Redaction, Redactor, Treatment, TreatmentKind,
};
use types::secret::Secret;

use super::recognizer::Kinds;
use super::redactor::{derived, hinted};
use super::{Catalog, Masks};
use crate::classification::Classification;

/// Every recognizer has a class.
const CLASSES: [&str; 6] = ["us_ssn", "card_number", "iban", "us_aba", "email", "phone"];

const OPERATORS: [Operator; 4] =
    [Operator::Replace, Operator::Partial, Operator::Hash, Operator::Null];

/// A type of each shape: text, names, JSON, XML, uuid, bytes, arrays, numbers, times, ranges, none known.
const TYPES: [u32; 18] =
    [0, 25, 1043, 19, 114, 3802, 142, 2950, 17, 1009, 1015, 20, 23, 16, 1082, 1700, 3807, 16_500];

/// Masks of every operator.
static MASKS: LazyLock<[Arc<Masks>; 4]> = LazyLock::new(|| {
    let told = CLASSES.map(|name| {
        format!("[[class]]\nname = \"{name}\"\ncolumns = [\"*.{name}\"]\nrecognizer = \"{name}\"\n")
    });
    let classes = Classification::parse(&told.concat()).expect("these are classes");
    OPERATORS.map(|operator| {
        let rules = CLASSES.map(|name| MaskRule { class: DataClass(name.into()), operator });
        Masks::compile(&rules, &classes, &Secret::new([7; 32]))
    })
});

/// Runs one input: the operator, the treatment, the type, the format, a byte each; then the value.
pub fn one_input(input: &[u8]) {
    let Some(([operator, kind, oid, format], value)) = input.split_first_chunk() else { return };
    let Some(masks) = MASKS.get(usize::from(*operator) % MASKS.len()) else { return };
    let mut redactor = masks.redactor(Arc::new(Catalog::unknown()));
    let kind = match kind % 5 {
        0 => TreatmentKind::Pass,
        1 => TreatmentKind::Inspect,
        2 => TreatmentKind::Mask(u16::from(kind / 5) % 6),
        3 => derived(u16::from(kind / 5) % 6),
        _ => hinted(Kinds::from_bits(kind / 5)),
    };
    let format = if format & 1 == 0 { Format::Text } else { Format::Binary };
    let type_oid = TYPES.get(usize::from(*oid) % TYPES.len()).copied().unwrap_or_default();
    // No modifier, and those of `varchar(1)` to `varchar(15)`.
    let modifier = if *oid < 128 { -1 } else { i32::from(*oid % 16) + 4 };
    let treatment = Treatment { kind, type_oid, modifier, format };
    whole(redactor.as_mut(), treatment, value);
    pieces(redactor.as_mut(), treatment, value);
    let mut out = Vec::new();
    if redactor.redact_text(value, &mut out) == Redaction::Unchanged {
        assert!(out.is_empty(), "what is unchanged is not written");
    }
    let text = String::from_utf8_lossy(value);
    let once = masks.redact_literals(&text);
    assert!(once == text || !once.is_empty(), "a literal is replaced by something");
}

fn whole(redactor: &mut dyn Redactor, treatment: Treatment, value: &[u8]) {
    let mut out = b"before".to_vec();
    let redaction = redactor.redact(treatment, value, &mut out);
    let written = out.strip_prefix(b"before".as_slice());
    let written = written.expect("what stood before stays");
    match redaction {
        Redaction::Unchanged | Redaction::Null => assert!(written.is_empty(), "nothing is written"),
        Redaction::Replaced => {
            let text = std::str::from_utf8(value).is_ok();
            let is_text = text && (treatment.format == Format::Text || treatment.type_oid == 25);
            assert!(!is_text || std::str::from_utf8(written).is_ok(), "text stays text");
        }
    }
    let counted = redactor.take_counts().iter().map(|one| one.count).sum::<u64>();
    match redaction {
        Redaction::Unchanged => assert_eq!(counted, 0, "what is not masked is not counted"),
        Redaction::Replaced => assert!(counted > 0, "what is masked is counted"),
        Redaction::Null => {}
    }
    match treatment.kind {
        TreatmentKind::Pass => assert_eq!(redaction, Redaction::Unchanged, "it passes"),
        TreatmentKind::Mask(at) if at & 0x8000 == 0 => {
            assert_ne!(redaction, Redaction::Unchanged, "a masked value does not come through");
        }
        TreatmentKind::Inspect | TreatmentKind::Mask(_) => {}
    }
}

/// The same in pieces of a value too large to hold: no length changes.
fn pieces(redactor: &mut dyn Redactor, treatment: Treatment, value: &[u8]) {
    let mut piece = value.to_vec();
    redactor.fill(treatment, &mut piece);
    assert_eq!(piece.len(), value.len(), "lengths stay");
    if let TreatmentKind::Mask(_) = treatment.kind {
        assert!(piece.iter().all(|byte| *byte == b'*'), "a masked piece is filled");
    }
    let _counts = redactor.take_counts();
}
