//! No masks: what a server answered is followed as it was, and nothing of it is kept.

use types::command::Analysis;
use types::redact::{
    Column, Format, MaskCount, Quotes, Redaction, Redactor, Treatment, TreatmentKind,
};

/// Leaves every value as it is.
#[derive(Debug)]
pub(crate) struct Unmasked;

impl Redactor for Unmasked {
    fn plan(&mut self, _: &Analysis, columns: &[Column], treatments: &mut Vec<Treatment>) {
        treatments.extend(columns.iter().map(|one| pass(one.type_oid, one.modifier, one.format)));
    }

    fn plan_copy(&mut self, _: &Analysis, count: usize, format: Format, to: &mut Vec<Treatment>) {
        to.extend((0..count).map(|_| pass(0, -1, format)));
    }

    fn redact(&mut self, _: Treatment, _: &[u8], _: &mut Vec<u8>) -> Redaction {
        Redaction::Unchanged
    }

    fn is_clean(&mut self, _: &[u8]) -> bool {
        true
    }

    fn fill(&mut self, _: Treatment, _: &mut [u8]) {}

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

fn pass(type_oid: u32, modifier: i32, format: Format) -> Treatment {
    Treatment { kind: TreatmentKind::Pass, type_oid, modifier, format }
}
