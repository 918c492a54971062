//! The masks of a session that was given none yet: no value passes.

use types::command::Analysis;
use types::redact::{
    Column, Format, MaskCount, Quotes, Redaction, Redactor, Treatment, TreatmentKind,
};

/// Masks every value whole and leaves the server's texts, of which a login needs to see some.
#[derive(Debug)]
pub(super) struct Blind;

impl Redactor for Blind {
    fn plan(&mut self, _: &Analysis, columns: &[Column], treatments: &mut Vec<Treatment>) {
        treatments.extend(
            columns.iter().map(|column| whole(column.type_oid, column.modifier, column.format)),
        );
    }

    fn plan_copy(
        &mut self,
        _: &Analysis,
        count: usize,
        format: Format,
        treatments: &mut Vec<Treatment>,
    ) {
        treatments.extend((0..count).map(|_| whole(0, -1, format)));
    }

    fn redact(&mut self, _: Treatment, _: &[u8], _: &mut Vec<u8>) -> Redaction {
        Redaction::Null
    }

    fn fill(&mut self, _: Treatment, piece: &mut [u8]) {
        piece.fill(b'*');
    }

    fn quotes(&mut self, _: &Analysis) -> Quotes {
        Quotes::Nothing
    }

    fn redact_text(&mut self, _: &[u8], _: &mut Vec<u8>) -> Redaction {
        Redaction::Unchanged
    }

    fn has_function(&self, _: &str) -> bool {
        false
    }

    fn take_counts(&mut self) -> Vec<MaskCount> {
        Vec::new()
    }
}

fn whole(type_oid: u32, modifier: i32, format: Format) -> Treatment {
    Treatment { kind: TreatmentKind::Mask(0), type_oid, modifier, format }
}
