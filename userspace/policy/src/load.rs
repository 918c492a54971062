//! Turns sources into validated policies, or says what is wrong and where.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use cedar_policy::{Effect, Entity, Policy, PolicyId, Schema, ValidationMode, Validator};
use mask::classification::{Classification, ClassificationError};
use miette::Diagnostic;

use crate::obligation::Annotations;
use crate::policy_set::PolicySource;
use crate::request;

/// A validated source.
pub(crate) struct Loaded {
    /// Permits and plain forbids.
    pub(crate) hard: Vec<Policy>,
    /// Forbids that an obligation lifts.
    pub(crate) soft: Vec<Policy>,
    /// The annotations of all, by id.
    pub(crate) annotations: HashMap<PolicyId, Annotations>,
    /// The schema's action groups, part of every request's entities.
    pub(crate) actions: Vec<Entity>,
    /// The classes of data.
    pub(crate) classification: Classification,
    /// The source's digest.
    pub(crate) digest: [u8; 32],
}

/// Why a policy source is refused.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The schema does not parse, or warns.
    #[error("schema{}: {message}", at(*line))]
    Schema {
        /// The line, from 1.
        line: Option<usize>,
        /// What Cedar says.
        message: String,
    },
    /// The schema does not describe the requests that are made.
    #[error("schema does not fit vestibule's requests: {message}")]
    SchemaMismatch {
        /// What Cedar says.
        message: String,
    },
    /// A file does not parse.
    #[error("{file}{}: {message}", at(*line))]
    Syntax {
        /// The file.
        file: String,
        /// The line, from 1.
        line: Option<usize>,
        /// What Cedar says.
        message: String,
    },
    /// An annotation or its place is wrong.
    #[error("{file}{}: policy `{policy}`: {message}", at(*line))]
    Annotation {
        /// The file.
        file: String,
        /// The policy; Cedar's own number where it has no id.
        policy: String,
        /// The line, from 1.
        line: Option<usize>,
        /// What is wrong.
        message: String,
    },
    /// Two policies have one id.
    #[error("{file}{}: policy `{policy}` stands already in {other}", at(*line))]
    DuplicateId {
        /// The file.
        file: String,
        /// The policy.
        policy: String,
        /// The line, from 1.
        line: Option<usize>,
        /// The file that has it first.
        other: String,
    },
    /// Validation against the schema found an error or warns.
    #[error("{file}{}: policy `{policy}`: {message}", at(*line))]
    Validation {
        /// The file.
        file: String,
        /// The policy.
        policy: String,
        /// The line, from 1.
        line: Option<usize>,
        /// What Cedar says.
        message: String,
    },
    /// A template: nothing would link it.
    #[error("{file}: templates are not supported")]
    Template {
        /// The file.
        file: String,
    },
    /// Beyond the bounds.
    #[error("more than {POLICIES_MAX} policies or {SOURCE_BYTES_MAX} bytes of policy text")]
    TooLarge,
    /// The classification is wrong.
    #[error(transparent)]
    Classification(#[from] ClassificationError),
}

/// Loads a source whose digest is `digest`.
pub(crate) fn load(source: &PolicySource, digest: [u8; 32]) -> Result<Loaded, LoadError> {
    let PolicySource { schema, policies, classification } = source;
    let bytes: usize = policies.iter().map(|(_, text)| text.len()).sum::<usize>() + schema.len();
    if bytes > SOURCE_BYTES_MAX {
        return Err(LoadError::TooLarge);
    }
    let schema = load_schema(schema)?;
    let classification = Classification::parse(classification)?;
    let mut read = Read::default();
    for (file, text) in policies {
        read.file(file, text)?;
    }
    read.validate(&schema)?;
    let actions = actions(&schema)?;
    request::check_schema(&schema).map_err(|message| LoadError::SchemaMismatch { message })?;
    let Read { hard, soft, annotations, .. } = read;
    Ok(Loaded { hard, soft, annotations, actions, classification, digest })
}

#[derive(Default)]
struct Read {
    hard: Vec<Policy>,
    soft: Vec<Policy>,
    annotations: HashMap<PolicyId, Annotations>,
    files: HashMap<PolicyId, (String, Arc<str>)>,
}

impl Read {
    fn file(&mut self, file: &str, text: &str) -> Result<(), LoadError> {
        let parsed = cedar_policy::PolicySet::from_str(text).map_err(|e| LoadError::Syntax {
            file: file.to_owned(),
            line: line_of(&e, text),
            message: e.to_string(),
        })?;
        if parsed.templates().next().is_some() {
            return Err(LoadError::Template { file: file.to_owned() });
        }
        if parsed.num_of_policies() + self.files.len() > POLICIES_MAX {
            return Err(LoadError::TooLarge);
        }
        let shared: Arc<str> = text.into();
        let mut parsed: Vec<&Policy> = parsed.policies().collect();
        // Cedar numbers policies in file order (`policy0`, …) but does not list them so.
        parsed.sort_by_key(|p| (p.id().to_string().len(), p.id().to_string()));
        for policy in parsed {
            self.policy(file, &shared, policy)?;
        }
        Ok(())
    }

    fn policy(&mut self, file: &str, text: &Arc<str>, policy: &Policy) -> Result<(), LoadError> {
        let line = policy.to_cedar().and_then(|own| Some(line_at(text, text.find(&own)?)));
        let annotations = Annotations::read(policy).map_err(|message| LoadError::Annotation {
            file: file.to_owned(),
            policy: policy.annotation("id").map_or_else(|| policy.id().to_string(), str::to_owned),
            line,
            message,
        })?;
        let id = PolicyId::new(&annotations.id);
        if let Some((other, _)) = self.files.get(&id) {
            let (file, other) = (file.to_owned(), other.clone());
            return Err(LoadError::DuplicateId { file, policy: id.to_string(), line, other });
        }
        let soft = policy.effect() == Effect::Forbid && annotations.obligation.is_some();
        let set = if soft { &mut self.soft } else { &mut self.hard };
        set.push(policy.new_id(id.clone()));
        self.annotations.insert(id.clone(), annotations);
        self.files.insert(id, (file.to_owned(), Arc::clone(text)));
        Ok(())
    }

    fn validate(&self, schema: &Schema) -> Result<(), LoadError> {
        let all =
            cedar_policy::PolicySet::from_policies(self.hard.iter().chain(&self.soft).cloned())
                .expect("ids are unique");
        let result = Validator::new(schema.clone()).validate(&all, ValidationMode::Strict);
        // Cedar's order varies from run to run; an operator wants the same one each time, and an
        // error before the warnings that follow from it.
        let errors =
            result.validation_errors().map(|e| self.invalid(e.policy_id(), e, &e.to_string()));
        let warnings =
            result.validation_warnings().map(|w| self.invalid(w.policy_id(), w, &w.to_string()));
        let first = errors
            .min_by_key(ToString::to_string)
            .or_else(|| warnings.min_by_key(ToString::to_string));
        first.map_or(Ok(()), Err)
    }

    fn invalid(&self, id: &PolicyId, at: &dyn Diagnostic, message: &str) -> LoadError {
        let (file, text) = self.files.get(id).cloned().unwrap_or_default();
        let prefix = format!("for policy `{id}`, ");
        let message = message.strip_prefix(&prefix).unwrap_or(message).to_owned();
        LoadError::Validation { file, policy: id.to_string(), line: line_of(at, &text), message }
    }
}

/// Policies of one set: parsing takes 360 ms at 10,000; a session's slice is what is evaluated.
const POLICIES_MAX: usize = 10_000;

/// Policy text of one set: 10,000 policies of 800 bytes.
const SOURCE_BYTES_MAX: usize = 8 * 1024 * 1024;

fn load_schema(text: &str) -> Result<Schema, LoadError> {
    let (schema, mut warnings) = Schema::from_cedarschema_str(text)
        .map_err(|e| LoadError::Schema { line: line_of(&e, text), message: e.to_string() })?;
    match warnings.next() {
        Some(w) => Err(LoadError::Schema { line: line_of(&w, text), message: w.to_string() }),
        None => Ok(schema),
    }
}

fn actions(schema: &Schema) -> Result<Vec<Entity>, LoadError> {
    let entities = schema
        .action_entities()
        .map_err(|e| LoadError::Schema { line: None, message: e.to_string() })?;
    Ok(entities.iter().cloned().collect())
}

/// The line, from 1, that a diagnostic of Cedar's points at.
fn line_of(diagnostic: &dyn Diagnostic, text: &str) -> Option<usize> {
    Some(line_at(text, diagnostic.labels()?.next()?.offset()))
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|b| *b == b'\n').count()
}

fn at(line: Option<usize>) -> String {
    line.map(|line| format!(":{line}")).unwrap_or_default()
}
