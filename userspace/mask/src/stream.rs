//! Masks a text as it streams by: the body of an HTTP answer.
//!
//! No value that a recognizer knows holds a tab, a comma, a line feed or a double quote, and none of these beside it
//! makes or unmakes one ([`types::redact::Redactor::is_clean`]); so what is behind the last of them waits for more, and
//! the rest goes on. In JSON the members' names count as columns' names do: a member that a class's patterns name is
//! masked whole, of one whose name suggests a class weak forms count, too. Escapes of printable characters (`\u0040`)
//! are undone, so that nothing hides behind them.

use std::sync::Arc;

use types::redact::MaskCount;

use super::masks::Masks;
use super::recognizer::{Kinds, find};

mod json;

use self::json::Json;

/// What a text is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nothing in particular.
    Plain,
    /// JSON, one value or several.
    Json,
}

/// Masks one text.
#[derive(Debug)]
pub struct TextStream {
    state: State,
    /// What waits for more: at most [`HELD_BYTES_MAX`], and while a piece is taken that piece.
    held: Vec<u8>,
    json: Option<Json>,
}

#[derive(Debug)]
struct State {
    masks: Arc<Masks>,
    counts: Vec<u64>,
}

/// Where a piece stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Where a value may be replaced by any text.
    Text,
    /// In JSON, outside of strings: what replaces a value is one.
    Bare,
}

impl TextStream {
    /// A text in this form, by these masks.
    pub fn new(masks: Arc<Masks>, form: Form) -> Self {
        let counts = vec![0; masks.rules.len()];
        let json = (form == Form::Json).then(Json::default);
        Self { state: State { masks, counts }, held: Vec::new(), json }
    }

    /// Takes more of the text; what can go on is appended to `out`, masked.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let Self { state, held, json } = self;
        if let Some(json) = json {
            return json.take(bytes, held, state, out);
        }
        held.extend_from_slice(bytes);
        let divides = |byte: &u8| matches!(byte, b'\t' | b',' | b'\n' | b'"');
        if let Some(last) = held.iter().rposition(divides) {
            state.put(held, last + 1, Place::Text, Kinds::default(), out);
            held.drain(..=last);
        }
        if held.len() >= HELD_BYTES_MAX {
            state.flush_head(held, Place::Text, Kinds::default(), out);
        }
    }

    /// Takes the end of the text.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        match &mut self.json {
            Some(json) => json.finish(&mut self.held, &mut self.state, out),
            None => self.state.flush(&mut self.held, Place::Text, Kinds::default(), out),
        }
    }

    /// How many values were masked, one count per class; empty if none was.
    pub fn counts(&self) -> Vec<MaskCount> {
        let State { masks, counts } = &self.state;
        let masked = masks.rules.iter().zip(counts).filter(|(_, count)| **count > 0);
        masked.map(|(rule, count)| MaskCount { class: rule.class.clone(), count: *count }).collect()
    }
}

impl State {
    /// Masks all that is held.
    fn flush(&mut self, held: &mut Vec<u8>, place: Place, hint: Kinds, out: &mut Vec<u8>) {
        self.put(held, held.len(), place, hint, out);
        held.clear();
    }

    /// Masks what no longer can be part of a value that goes on, of much that has nothing to divide it.
    fn flush_head(&mut self, held: &mut Vec<u8>, place: Place, hint: Kinds, out: &mut Vec<u8>) {
        let end = self.put(held, held.len() - SPAN_BYTES, place, hint, out);
        held.drain(..end);
    }

    /// Appends `held` masked up to `end`, or to where a value begins that goes on behind it; answers where that is.
    fn put(
        &mut self,
        held: &[u8],
        mut end: usize,
        place: Place,
        hint: Kinds,
        out: &mut Vec<u8>,
    ) -> usize {
        let Self { masks, counts } = self;
        let mut copied = 0;
        for found in find(held, masks.kinds, hint.and(masks.kinds)) {
            if found.range.end > end {
                end = end.min(found.range.start);
                break;
            }
            let Some((at, rule)) = masks.rule_of(found.kind) else { continue };
            out.extend_from_slice(held.get(copied..found.range.start).unwrap_or_default());
            let value = held.get(found.range.clone()).unwrap_or_default();
            match place {
                Place::Text => masks.part(rule, value, out),
                Place::Bare => {
                    // A sign belongs to the number.
                    out.truncate(out.len() - usize::from(out.last() == Some(&b'-')));
                    out.push(b'"');
                    masks.part(rule, value, out);
                    out.push(b'"');
                }
            }
            copied = found.range.end;
            if let Some(count) = counts.get_mut(usize::from(at)) {
                *count += 1;
            }
        }
        out.extend_from_slice(held.get(copied..end.max(copied)).unwrap_or_default());
        end
    }

    /// Appends what stands in for a whole value of a member that a rule is for.
    fn whole(&mut self, at: u16, value: &[u8], out: &mut Vec<u8>) {
        let Some(rule) = self.masks.rules.get(usize::from(at)) else { return };
        let mut text = Vec::new();
        self.masks.part(rule, value, &mut text);
        // What is kept of a value must not end the string that it stands in.
        out.extend(
            text.into_iter().map(|byte| if matches!(byte, b'"' | b'\\') { b'*' } else { byte }),
        );
        if let Some(count) = self.counts.get_mut(usize::from(at)) {
            *count += 1;
        }
    }
}

/// What is held of a text that has nothing to divide it: a chunk of it costs one search.
const HELD_BYTES_MAX: usize = 8 * 1024;

/// What of that is kept: the longest value.
const SPAN_BYTES: usize = types::limits::RECOGNIZER_SPAN_MAX;

#[cfg(test)]
mod tests;
