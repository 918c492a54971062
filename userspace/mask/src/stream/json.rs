//! JSON as it streams by: which string is a member's name, and what its value is to be masked by.

use super::{HELD_BYTES_MAX, Place, State};
use crate::recognizer::Kinds;

/// Where in a document one is.
#[derive(Debug, Default)]
pub(super) struct Json {
    in_string: bool,
    /// An escape that is not complete: at most `\uXXXX`.
    escape: Vec<u8>,
    /// What encloses this place, the innermost last.
    around: Vec<Around>,
    /// How many more enclose it than are kept.
    deeper: usize,
    /// The last string, as far as a name is that long.
    name: Vec<u8>,
    here: Here,
}

/// What a value is masked by, besides what is recognized in it.
#[derive(Clone, Copy, Debug, Default)]
struct Here {
    /// The rule that masks it whole.
    rule: Option<u16>,
    hint: Kinds,
}

/// A list or an object, and what it is masked by as a whole.
#[derive(Clone, Copy, Debug)]
struct Around {
    is_object: bool,
    whole: Here,
}

impl Around {
    /// What is next in it is masked by: in an object nothing, until a member's name has been read.
    fn next(self) -> Here {
        if self.is_object { Here::default() } else { self.whole }
    }
}

impl Json {
    /// Takes a piece.
    pub(super) fn take(
        &mut self,
        mut piece: &[u8],
        held: &mut Vec<u8>,
        state: &mut State,
        out: &mut Vec<u8>,
    ) {
        while let Some((byte, rest)) = piece.split_first() {
            let run = if self.in_string && self.escape.is_empty() {
                let ends = memchr::memchr2(b'"', b'\\', piece).unwrap_or(piece.len());
                ends.min(HELD_BYTES_MAX.saturating_sub(held.len()))
            } else {
                0
            };
            if run > 0 {
                let (text, behind) = piece.split_at(run);
                self.text(text, held);
                piece = behind;
            } else {
                self.one(*byte, held, state, out);
                piece = rest;
            }
            self.relieve(held, state, out);
        }
    }

    fn one(&mut self, byte: u8, held: &mut Vec<u8>, state: &mut State, out: &mut Vec<u8>) {
        if self.in_string {
            self.inside(byte, held, state, out);
        } else {
            self.outside(byte, held, state, out);
        }
    }

    /// Lets go of what is held where that is much.
    fn relieve(&mut self, held: &mut Vec<u8>, state: &mut State, out: &mut Vec<u8>) {
        if held.len() >= HELD_BYTES_MAX {
            if self.here.rule.is_some() && !self.is_name() {
                // Its head is enough to make a stand-in from.
                held.truncate(HELD_BYTES_MAX / 2);
            } else {
                let place = if self.in_string { Place::Text } else { Place::Bare };
                state.flush_head(held, place, self.hint(), out);
            }
        }
    }

    /// Takes the end.
    pub(super) fn finish(&mut self, held: &mut Vec<u8>, state: &mut State, out: &mut Vec<u8>) {
        held.append(&mut self.escape);
        if self.in_string {
            self.end_string(held, state, out);
        } else {
            self.end_bare(held, state, out);
        }
    }

    fn inside(&mut self, byte: u8, held: &mut Vec<u8>, state: &mut State, out: &mut Vec<u8>) {
        if !self.escape.is_empty() {
            self.escape.push(byte);
            let is_short = self.escape.len() == 2 && byte != b'u';
            if is_short || self.escape.len() == 6 {
                match plain(&self.escape) {
                    Some(byte) => self.text(&[byte], held),
                    None => held.extend_from_slice(&self.escape),
                }
                self.escape.clear();
            }
            return;
        }
        match byte {
            b'\\' => self.escape.push(byte),
            b'"' => {
                self.end_string(held, state, out);
                out.push(b'"');
                self.in_string = false;
            }
            _ => self.text(&[byte], held),
        }
    }

    fn text(&mut self, text: &[u8], held: &mut Vec<u8>) {
        let room = NAME_BYTES_MAX.saturating_sub(self.name.len()).min(text.len());
        self.name.extend_from_slice(text.get(..room).unwrap_or_default());
        held.extend_from_slice(text);
    }

    fn outside(&mut self, byte: u8, held: &mut Vec<u8>, state: &mut State, out: &mut Vec<u8>) {
        if !matches!(
            byte,
            b'"' | b'{' | b'}' | b'[' | b']' | b',' | b':' | b' ' | b'\t' | b'\r' | b'\n'
        ) {
            return held.push(byte);
        }
        self.end_bare(held, state, out);
        match byte {
            b'"' => {
                self.in_string = true;
                self.name.clear();
            }
            b'{' | b'[' => self.enter(byte == b'{'),
            b'}' | b']' => self.leave(),
            b':' => self.here = self.named(state),
            b',' => {
                self.here = self.around.last().map_or_else(Here::default, |around| around.next());
            }
            _ => {}
        }
        out.push(byte);
    }

    fn enter(&mut self, is_object: bool) {
        if self.around.len() >= DEPTH_MAX {
            self.deeper += 1;
            return;
        }
        let around = Around { is_object, whole: self.here };
        self.around.push(around);
        self.here = around.next();
    }

    fn leave(&mut self) {
        if self.deeper > 0 {
            self.deeper -= 1;
        } else {
            self.around.pop();
        }
        self.here = self.around.last().map_or_else(Here::default, |around| around.next());
    }

    /// What the value is masked by that has the last string for its name.
    fn named(&self, state: &State) -> Here {
        let Some(Around { is_object: true, whole }) = self.around.last() else { return self.here };
        let name = String::from_utf8_lossy(&self.name);
        let classes = state.masks.classification.classes.iter();
        let classes = classes.filter(|class| class.covers_name(&name)).map(|class| &class.name);
        // Members of what is masked whole are masked as well.
        let rule = state.masks.strictest(classes).or(whole.rule);
        Here { rule, hint: Kinds::hinted_by(&self.name).or(whole.hint) }
    }

    /// Whether the string here is a member's name.
    fn is_name(&self) -> bool {
        // Until its colon, a member is masked by nothing of its own.
        self.in_string && self.here.rule.is_none()
    }

    fn hint(&self) -> Kinds {
        self.here.hint
    }

    fn end_string(&mut self, held: &mut Vec<u8>, state: &mut State, out: &mut Vec<u8>) {
        match self.here.rule {
            Some(rule) if !held.is_empty() => {
                state.whole(rule, held, out);
                held.clear();
            }
            _ => state.flush(held, Place::Text, self.hint(), out),
        }
    }

    /// The end of a number, a word, or of nothing.
    fn end_bare(&mut self, held: &mut Vec<u8>, state: &mut State, out: &mut Vec<u8>) {
        match self.here.rule {
            Some(rule) if !held.is_empty() && held != b"null" => {
                out.push(b'"');
                state.whole(rule, held, out);
                out.push(b'"');
                held.clear();
            }
            _ => state.flush(held, Place::Bare, self.hint(), out),
        }
    }
}

/// The printable character that an escape stands for, where it need not be escaped.
fn plain(escape: &[u8]) -> Option<u8> {
    let byte = match escape {
        b"\\/" => b'/',
        [b'\\', b'u', digits @ ..] => {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::try_from(u16::from_str_radix(digits, 16).ok()?).ok()?
        }
        _ => return None,
    };
    (matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')).then_some(byte)
}

/// As much of a member's name as patterns are compared with.
const NAME_BYTES_MAX: usize = 256;

/// How deep lists and objects are told apart: 1,024 × 8 B.
const DEPTH_MAX: usize = 1_024;
