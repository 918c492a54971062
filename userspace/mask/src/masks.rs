//! A session's rules, compiled: which class is masked how.

use std::borrow::Cow;
use std::sync::Arc;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use types::command::{Parameter, ParameterValue};
use types::limits::PARAMETER_BYTES_MAX;
use types::redact::{DataClass, MaskRule, Operator, Redactor};
use types::secret::Secret;

use super::RecognizerKind;
use super::catalog::Catalog;
use super::recognizer::{Kinds, Scan, find};
use super::redactor::SessionRedactor;
use crate::classification::{ClassRule, Classification};

/// Compiled rules, shared by the sessions they hold for.
#[derive(Debug)]
pub struct Masks {
    pub(super) rules: Vec<Rule>,
    pub(super) kinds: Kinds,
    /// For each kind, by its number, the first rule whose class it finds.
    by_kind: [Option<u16>; 6],
    pub(super) classification: Classification,
    /// HMAC-SHA-256 that has taken the node's key, so that a hash costs two compressions, not four.
    pub(super) hmac: Hmac<Sha256>,
}

/// One rule.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) class: DataClass,
    pub(super) operator: Operator,
    pub(super) word: Box<[u8]>,
    kind: Option<RecognizerKind>,
}

impl Masks {
    /// Those that replace what any recognizer finds by the name of its class.
    pub fn replacing_all() -> Arc<Self> {
        let class = |kind: RecognizerKind| ClassRule {
            name: DataClass(kind.as_str().into()),
            columns: Vec::new(),
            recognizer: Some(kind),
            tokens: None,
        };
        let classes: Vec<ClassRule> = RecognizerKind::ALL.map(class).into();
        let replace =
            |rule: &ClassRule| MaskRule { class: rule.name.clone(), operator: Operator::Replace };
        let rules: Vec<MaskRule> = classes.iter().map(replace).collect();
        // Nothing is hashed, so there is no need of a key.
        Self::compile(&rules, &Classification { classes }, &Secret::new([0; 32]))
    }

    /// Compiles `rules`; a class without a rule may be seen. `key` is the node's, for hashes.
    pub fn compile(
        rules: &[MaskRule],
        classification: &Classification,
        key: &Secret<[u8; 32]>,
    ) -> Arc<Self> {
        let rules: Vec<Rule> = rules
            .iter()
            .map(|MaskRule { class, operator }| Rule {
                class: class.clone(),
                operator: *operator,
                word: format!("[{}]", class.0).into_bytes().into(),
                kind: classification.get(class).and_then(|c| c.recognizer),
            })
            .collect();
        let kinds = rules.iter().filter_map(|r| r.kind).fold(Kinds::default(), Kinds::with);
        let mut by_kind = [None; 6];
        for (at, rule) in (0u16..).zip(&rules) {
            let slot = rule.kind.and_then(|kind| by_kind.get_mut(kind as usize));
            if let Some(slot) = slot {
                slot.get_or_insert(at);
            }
        }
        let hmac = Hmac::new_from_slice(key.expose()).expect("HMAC takes any key length");
        Arc::new(Self { rules, kinds, by_kind, classification: classification.clone(), hmac })
    }

    /// The redactor of one session on a database whose columns are `catalog`'s.
    pub fn redactor(self: &Arc<Self>, catalog: Arc<Catalog>) -> Box<dyn Redactor> {
        Box::new(SessionRedactor::new(Arc::clone(self), catalog))
    }

    /// `text` with recognized values replaced; borrowed where there are none.
    pub fn redact_literals<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut out = Vec::new();
        if self.replace_found(text.as_bytes(), Kinds::default(), &mut out, |_| ()) {
            Cow::Owned(String::from_utf8_lossy(&out).into_owned())
        } else {
            Cow::Borrowed(text)
        }
    }

    /// Whether [`Masks::redact_parameter`] changes a parameter.
    pub fn redacts(&self, parameter: &Parameter) -> bool {
        let (value, whole) = match &parameter.value {
            ParameterValue::Null => return false,
            ParameterValue::Text { text, bytes } => (text.as_bytes(), *bytes),
            ParameterValue::Binary { head, bytes } => (&**head, *bytes),
        };
        self.replace_cut(value, whole) || find(value, self.kinds, Kinds::default()).next().is_some()
    }

    /// Replaces recognized values in a parameter. It has no column whose name could hint at its
    /// class, so only the strong forms count. Where the parameter was cut and a value may stand
    /// across the cut, the last bytes are dropped, too.
    pub fn redact_parameter(&self, parameter: &mut Parameter) {
        match &mut parameter.value {
            ParameterValue::Null => {}
            ParameterValue::Text { text, bytes } => {
                if self.replace_cut(text.as_bytes(), *bytes) {
                    let keep = text.len().saturating_sub(CUT_BYTES);
                    text.truncate(text.floor_char_boundary(keep));
                }
                if let Cow::Owned(redacted) = self.redact_literals(text) {
                    *text = redacted;
                }
            }
            ParameterValue::Binary { head, bytes } => {
                if self.replace_cut(head, *bytes) {
                    head.truncate(head.len().saturating_sub(CUT_BYTES));
                }
                let mut scan = Scan::new(self.kinds, Kinds::default());
                while let Some(found) = scan.next(head) {
                    if let Some(piece) = head.get_mut(found.range) {
                        piece.fill(b'*');
                    }
                }
            }
        }
    }

    /// Whether a value may stand across the end of `head`, which was cut from `whole` bytes.
    fn replace_cut(&self, head: &[u8], whole: u32) -> bool {
        // Shorter ones are whole, though an integer's text may be shorter than the integer.
        let most = head.len().max(PARAMETER_BYTES_MAX);
        let cut = usize::try_from(whole).is_ok_and(|whole| whole > most);
        let tail = head.len().saturating_sub(CUT_BYTES);
        let tail = head.get(tail..).unwrap_or_default();
        cut && !self.kinds.is_empty() && tail.iter().any(|b| b.is_ascii_digit() || *b == b'@')
    }

    /// Appends `text` with recognized values replaced and returns true; false and nothing written
    /// where there are none. `count` is told each rule used.
    pub(super) fn replace_found(
        &self,
        text: &[u8],
        hint: Kinds,
        out: &mut Vec<u8>,
        mut count: impl FnMut(u16),
    ) -> bool {
        let mut copied = 0;
        for found in find(text, self.kinds, hint) {
            let Some((at, rule)) = self.rule_of(found.kind) else { continue };
            out.extend_from_slice(text.get(copied..found.range.start).unwrap_or_default());
            self.part(rule, text.get(found.range.clone()).unwrap_or_default(), out);
            copied = found.range.end;
            count(at);
        }
        if copied > 0 {
            out.extend_from_slice(text.get(copied..).unwrap_or_default());
        }
        copied > 0
    }

    pub(super) fn rule_of(&self, kind: RecognizerKind) -> Option<(u16, &Rule)> {
        let at = *self.by_kind.get(kind as usize)?.as_ref()?;
        Some((at, self.rules.get(usize::from(at))?))
    }

    /// The strictest rule for any of `classes`.
    pub(super) fn strictest<'a>(
        &self,
        classes: impl IntoIterator<Item = &'a DataClass>,
    ) -> Option<u16> {
        let classes = classes.into_iter();
        let rules = classes.filter_map(|class| self.rules.iter().position(|r| r.class == *class));
        self.stricter(rules.filter_map(|at| u16::try_from(at).ok()))
    }

    /// The strictest rule of all.
    pub(super) fn strictest_of_all(&self) -> Option<u16> {
        self.stricter((0u16..).take(self.rules.len()))
    }

    /// The strictest of these rules.
    pub(super) fn stricter(&self, rules: impl IntoIterator<Item = u16>) -> Option<u16> {
        let rank = |at: &u16| self.rules.get(usize::from(*at)).map(|r| r.operator.strictness());
        rules.into_iter().max_by_key(rank)
    }
}

/// What of a cut parameter may be the head of a value: the longest number recognized, with its
/// separators, is shorter (an IBAN, 34 characters and a separator after each).
const CUT_BYTES: usize = 68;
