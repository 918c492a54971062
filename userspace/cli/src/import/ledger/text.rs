//! What of a command's texts is kept: recognized values masked, secrets left out.

use std::borrow::Cow;
use std::sync::Arc;

use anyhow::Result;
use mask::Masks;
use mask::classification::Classification;
use proto::sql::secrets;
use types::command::{Command, Parameter, ParameterValue};
use types::redact::{MaskRule, Operator};
use types::secret::Secret;

/// The classes that ship: whoever imports needs no policies.
const CLASSES: &str = include_str!("../../../../../policies/classification.toml");

/// Masks texts.
pub(super) struct Texts(Arc<Masks>);

impl Texts {
    /// With every class that is recognized replaced.
    pub(super) fn new() -> Result<Self> {
        let classification = Classification::parse(CLASSES)?;
        let rule = |class: &mask::classification::ClassRule| MaskRule {
            class: class.name.clone(),
            operator: Operator::Replace,
        };
        let rules: Vec<MaskRule> = classification.classes.iter().map(rule).collect();
        // No value is hashed.
        Ok(Self(Masks::compile(&rules, &classification, &Secret::new([0; 32]))))
    }

    /// A command's text and parameters as they are kept.
    pub(super) fn kept<'c>(&self, command: &'c Command) -> (Cow<'c, str>, Vec<Parameter>) {
        let found = secrets::find(&command.statement.text);
        let text = match found.text {
            Cow::Borrowed(text) => self.0.redact_literals(text),
            Cow::Owned(text) => self.0.redact_literals(&text).into_owned().into(),
        };
        let mut parameters = command.parameters.clone();
        for (at, parameter) in (1..).zip(&mut parameters) {
            let (is_secret, bytes) = match &parameter.value {
                ParameterValue::Null => continue,
                ParameterValue::Text { text, bytes } => (secrets::is_in(text), *bytes),
                ParameterValue::Binary { bytes, .. } => (false, *bytes),
            };
            if is_secret || found.parameters.contains(&at) {
                parameter.value = ParameterValue::Text { text: "[secret]".to_owned(), bytes };
            } else {
                self.0.redact_parameter(parameter);
            }
        }
        (text, parameters)
    }
}
