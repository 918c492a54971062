//! What of a command's texts is kept: recognized values masked, secrets left out.

use std::borrow::Cow;
use std::sync::Arc;

use mask::Masks;
use proto::sql::secrets;
use types::command::{Command, CommandKind, Parameter};

/// Masks texts: whoever imports needs no policies.
pub(super) struct Texts(Arc<Masks>);

impl Texts {
    /// With whatever is recognized replaced.
    pub(super) fn new() -> Self {
        Self(Masks::replacing_all())
    }

    /// A command's text and parameters as they are kept.
    pub(super) fn kept<'c>(&self, command: &'c Command) -> (Cow<'c, str>, Vec<Parameter>) {
        if command.kind == CommandKind::Request {
            // Its secrets are out of it already, and it is no SQL.
            return (self.0.redact_literals(&command.statement.text), Vec::new());
        }
        let found = secrets::find(&command.statement.text);
        let text = match found.text {
            Cow::Borrowed(text) => self.0.redact_literals(text),
            Cow::Owned(text) => self.0.redact_literals(&text).into_owned().into(),
        };
        let mut parameters = command.parameters.to_vec();
        for (at, parameter) in (1..).zip(&mut parameters) {
            if !secrets::leave_out(parameter, found.parameters.contains(&at)) {
                self.0.redact_parameter(parameter);
            }
        }
        (text, parameters)
    }
}
