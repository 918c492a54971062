//! A session's rules, compiled: which class is masked how.

use std::borrow::Cow;
use std::sync::Arc;

use types::command::{Parameter, ParameterValue};
use types::redact::{DataClass, MaskRule, Operator, Redactor};
use types::secret::Secret;

use super::RecognizerKind;
use super::catalog::Catalog;
use super::recognizer::{Kinds, find};
use super::redactor::SessionRedactor;
use crate::classification::Classification;

/// Compiled rules, shared by the sessions they hold for.
#[derive(Debug)]
pub struct Masks {
    pub(super) rules: Vec<Rule>,
    pub(super) kinds: Kinds,
    pub(super) classification: Classification,
    pub(super) key: Secret<[u8; 32]>,
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
    /// Compiles `rules`; a class without a rule may be seen. `key` is the node's, for hashes.
    pub fn compile(
        rules: &[MaskRule],
        classification: &Classification,
        key: Secret<[u8; 32]>,
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
        Arc::new(Self { rules, kinds, classification: classification.clone(), key })
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

    /// Replaces recognized values in a parameter. A parameter has no column, so the weak forms
    /// count as found where they are the whole value.
    pub fn redact_parameter(&self, parameter: &mut Parameter) {
        match &mut parameter.value {
            ParameterValue::Null => {}
            ParameterValue::Text { text, .. } => {
                let mut out = Vec::new();
                if self.replace_found(text.as_bytes(), self.kinds, &mut out, |_| ()) {
                    *text = String::from_utf8_lossy(&out).into_owned();
                }
            }
            ParameterValue::Binary { head, .. } => {
                let found: Vec<_> = find(head, self.kinds, self.kinds).map(|f| f.range).collect();
                for range in found {
                    if let Some(piece) = head.get_mut(range) {
                        piece.fill(b'*');
                    }
                }
            }
        }
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
        let at = self.rules.iter().position(|r| r.kind == Some(kind))?;
        Some((u16::try_from(at).ok()?, self.rules.get(at)?))
    }

    /// The strictest rule for any of `classes`.
    pub(super) fn strictest<'a>(
        &self,
        classes: impl Iterator<Item = &'a DataClass>,
    ) -> Option<u16> {
        let rules = classes.filter_map(|class| self.rules.iter().position(|r| r.class == *class));
        self.stricter(rules)
    }

    /// The strictest rule of all.
    pub(super) fn strictest_of_all(&self) -> Option<u16> {
        self.stricter(0..self.rules.len())
    }

    fn stricter(&self, rules: impl Iterator<Item = usize>) -> Option<u16> {
        let rank = |at: &usize| match self.rules.get(*at).map(|r| r.operator) {
            Some(Operator::Null) => 3,
            Some(Operator::Replace) => 2,
            Some(Operator::Hash) => 1,
            _ => 0,
        };
        rules.max_by_key(rank).and_then(|at| u16::try_from(at).ok())
    }
}
