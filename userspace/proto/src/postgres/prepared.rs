//! Prepared statements and portals: what they say, how their rows come, how they are masked.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use sha2::{Digest, Sha256};
use types::command::{Parameter, ParameterValue, Statement};
use types::limits::{PARAMETER_BYTES_MAX, PARAMETERS_MAX};
use types::redact::{Column, Format, Treatment, TreatmentKind};

use super::names::Held;
use super::value;
use crate::limit::Used;
use crate::reader::Reader;

/// A prepared statement.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) statement: Arc<Statement>,
    /// Types of parameters as Parse gave them; 0 and missing ones are the server's to choose.
    pub(super) parameter_types: Box<[u32]>,
    description: Mutex<Description>,
    /// What had been run unseen when it was prepared, counted.
    pub(super) generation: u64,
    _held: Held,
}

/// What is known of a statement's rows; valid in one epoch.
#[derive(Debug, Default)]
pub(super) struct Description {
    pub(super) epoch: u64,
    pub(super) rows: Rows,
    /// The message that said so, where it is short.
    told: Option<Box<[u8]>>,
    /// The segment in which a Describe went up.
    pub(super) asked_in: Option<u64>,
    /// Treatments of the last execution, with the formats they hold for.
    pub(super) plan: Option<(Formats, Arc<Plan>)>,
    /// From ParameterDescription.
    pub(super) parameter_types: Option<Box<[u32]>>,
}

/// The longest RowDescription that is kept beside its columns: 8 MiB for the 8,192 statements of a session.
const TOLD_BYTES_MAX: usize = 1_024;

impl Description {
    /// Takes a RowDescription's body, or `None` where there are no rows; answers the rows, `None` where it is malformed.
    /// Drivers describe before every execution: what was told before is not read again, and the plan made for it holds.
    pub(super) fn tell(&mut self, told: Option<&[u8]>) -> Option<Rows> {
        if told.is_none() || self.told.as_deref() != told {
            let rows = rows(told)?;
            if self.rows != rows {
                self.plan = None;
                self.rows = rows;
            }
            self.told = told.filter(|told| told.len() <= TOLD_BYTES_MAX).map(Box::from);
        }
        Some(self.rows.clone())
    }
}

/// The rows of a RowDescription's body, or none; `None` where it is malformed.
pub(super) fn rows(told: Option<&[u8]>) -> Option<Rows> {
    Some(match told {
        Some(body) => Rows::Columns(row_description(body)?.into()),
        None => Rows::None,
    })
}

/// The rows of a result.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Rows {
    /// Not described yet.
    #[default]
    Unknown,
    /// There are none.
    None,
    /// These columns.
    Columns(Arc<[Column]>),
}

/// How each column is treated.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) treatments: Vec<Treatment>,
    /// Whether every column passes.
    pub(super) pass: bool,
}

impl Plan {
    pub(super) fn new(treatments: Vec<Treatment>) -> Self {
        let pass = treatments.iter().all(|one| one.kind == TreatmentKind::Pass);
        Self { treatments, pass }
    }
}

/// Result formats as Bind gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Formats {
    /// One for all.
    All(Format),
    /// One for each.
    Each(Box<[Format]>),
}

impl Formats {
    fn of(&self, column: usize) -> Format {
        match self {
            Self::All(format) => *format,
            Self::Each(formats) => formats.get(column).copied().unwrap_or(Format::Text),
        }
    }

    fn given(given: Given<'_>) -> Self {
        match given.0 {
            [] | [_] => Self::All(given.of(0)),
            each => Self::Each((0..each.len()).map(|at| given.of(at)).collect()),
        }
    }

    /// `columns` with these formats.
    pub(super) fn apply(&self, columns: &[Column]) -> Vec<Column> {
        let formatted =
            |(at, column): (usize, &Column)| Column { format: self.of(at), ..column.clone() };
        columns.iter().enumerate().map(formatted).collect()
    }
}

impl Prepared {
    pub(super) fn new(
        statement: Arc<Statement>,
        parameter_types: Box<[u32]>,
        held: Held,
        generation: u64,
    ) -> Self {
        Self { statement, parameter_types, description: Mutex::default(), generation, _held: held }
    }

    /// The description, emptied where it is of an earlier epoch.
    pub(super) fn description(&self, epoch: u64) -> MutexGuard<'_, Description> {
        let mut description = self.description.lock().unwrap_or_else(PoisonError::into_inner);
        if description.epoch != epoch {
            let parameter_types = description.parameter_types.take();
            *description = Description { epoch, parameter_types, ..Description::default() };
        }
        description
    }
}

/// A bound statement.
#[derive(Debug)]
pub(super) struct Portal {
    /// `None` where the statement is not known.
    pub(super) prepared: Option<Arc<Prepared>>,
    pub(super) formats: Formats,
    pub(super) parameters: Arc<[Parameter]>,
    /// A digest of all of them, where those are not all and it is wanted.
    pub(super) whole: Option<Box<[u8; 32]>>,
    pub(super) bind_bytes: u64,
    /// What its executions used of their limits, where they have any.
    pub(super) used: OnceLock<Arc<Used>>,
    pub(super) _held: Held,
}

/// A Bind, read.
#[derive(Debug)]
pub(super) struct Bind<'a> {
    pub(super) portal: &'a [u8],
    pub(super) statement: &'a [u8],
    parameter_formats: Given<'a>,
    values: Reader<'a>,
    count: usize,
    pub(super) formats: Formats,
    bound: &'a [u8],
}

impl<'a> Bind<'a> {
    /// Reads a Bind's body; `None` where it is malformed.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let portal = reader.cstr()?;
        let statement = reader.cstr()?;
        let bound = reader.rest();
        let parameter_formats = formats(&mut reader)?;
        let count = usize::from(reader.u16()?);
        let values = reader;
        for _ in 0..count {
            reader.value()?;
        }
        let bound = bound.get(..bound.len() - reader.rest().len())?;
        let formats = Formats::given(formats(&mut reader)?);
        reader.is_empty().then_some(Self {
            portal,
            statement,
            parameter_formats,
            values,
            count,
            formats,
            bound,
        })
    }

    /// Reads a FunctionCall's arguments (its body from the formats on); `None` where malformed.
    pub(super) fn read_call(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let parameter_formats = formats(&mut reader)?;
        let count = usize::from(reader.u16()?);
        let values = reader;
        for _ in 0..count {
            reader.value()?;
        }
        let formats = Formats::All(if reader.u16()? == 0 { Format::Text } else { Format::Binary });
        reader.is_empty().then_some(Self {
            portal: &[],
            statement: &[],
            parameter_formats,
            values,
            count,
            formats,
            bound: &[],
        })
    }

    /// The part that says what its parameters are: their formats and values.
    pub(super) fn bound(&self) -> &'a [u8] {
        self.bound
    }

    /// SHA-256 of all parameters as they are bound: their number, formats and values.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new().chain_update((self.count as u64).to_be_bytes());
        for at in 0..self.parameter_formats.0.len() {
            digest.update([u8::from(self.parameter_formats.of(at) == Format::Binary)]);
        }
        let mut values = self.values;
        for _ in 0..self.count {
            let value = values.value().flatten();
            digest.update([u8::from(value.is_some())]);
            digest.update((value.unwrap_or_default().len() as u64).to_be_bytes());
            digest.update(value.unwrap_or_default());
        }
        digest.finalize().into()
    }

    /// All values, in order; NULL is `None`.
    pub(super) fn each_value(&self) -> impl Iterator<Item = Option<&'a [u8]>> {
        let mut values = self.values;
        (0..self.count).map_while(move |_| values.value())
    }

    /// The parameters for the record, the first [`PARAMETERS_MAX`] of them.
    pub(super) fn parameters(&self, type_of: impl Fn(usize) -> u32) -> Arc<[Parameter]> {
        let mut values = self.values;
        let count = self.count.min(PARAMETERS_MAX);
        if count == 0 {
            return Arc::default();
        }
        let parameter = |at| {
            let type_oid = type_of(at);
            // All were there when it was read.
            let value = values.value().flatten().map_or(ParameterValue::Null, |value| {
                parameter(type_oid, self.parameter_formats.of(at), value)
            });
            Parameter { type_oid, value }
        };
        (0..count).map(parameter).collect()
    }
}

/// Whether records have a part of some parameters only, or may not have them all.
pub(super) fn are_cut(parameters: &[Parameter]) -> bool {
    let is_cut = |parameter: &Parameter| match parameter.value {
        ParameterValue::Null => false,
        ParameterValue::Text { bytes, .. } | ParameterValue::Binary { bytes, .. } => {
            usize::try_from(bytes).is_ok_and(|bytes| bytes > PARAMETER_BYTES_MAX)
        }
    };
    parameters.len() >= PARAMETERS_MAX || parameters.iter().any(is_cut)
}

/// Formats as they lie in a message: none, one for all, or one for each.
#[derive(Clone, Copy, Debug)]
struct Given<'a>(&'a [[u8; 2]]);

impl Given<'_> {
    fn of(self, at: usize) -> Format {
        let given = match self.0 {
            [one] => Some(one),
            each => each.get(at),
        };
        if given == Some(&[0, 1]) { Format::Binary } else { Format::Text }
    }
}

fn formats<'a>(reader: &mut Reader<'a>) -> Option<Given<'a>> {
    let count = usize::from(reader.u16()?);
    let (given, _) = reader.bytes(2 * count)?.as_chunks();
    given.iter().all(|one| matches!(one, [0, 0 | 1])).then_some(Given(given))
}

fn parameter(type_oid: u32, format: Format, value: &[u8]) -> ParameterValue {
    let bytes = u32::try_from(value.len()).unwrap_or(u32::MAX);
    // One byte of version before a jsonb, three to end a character that the cut would split.
    let head = value.get(..PARAMETER_BYTES_MAX + 4).unwrap_or(value);
    let text = match format {
        Format::Text => Some(match std::str::from_utf8(head) {
            Ok(text) => text.to_owned(),
            Err(_) => String::from_utf8_lossy(head).into_owned(),
        }),
        Format::Binary if value::is_textual(type_oid) => value::text(type_oid, whole(head)),
        Format::Binary => value::text(type_oid, value)
            .or_else(|| value::array(type_oid, value, PARAMETER_BYTES_MAX)),
    };
    let Some(mut text) = text else {
        let head = value.get(..PARAMETER_BYTES_MAX).unwrap_or(value).to_vec();
        return ParameterValue::Binary { head, bytes };
    };
    text.truncate(text.floor_char_boundary(PARAMETER_BYTES_MAX));
    ParameterValue::Text { text, bytes }
}

/// `bytes` without the first part of a character at its end.
fn whole(bytes: &[u8]) -> &[u8] {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => {
            bytes.get(..error.valid_up_to()).unwrap_or_default()
        }
        _ => bytes,
    }
}

/// Reads a RowDescription's body; `None` where it is malformed.
pub(super) fn row_description(body: &[u8]) -> Option<Vec<Column>> {
    let mut reader = Reader::new(body);
    let count = reader.u16()?;
    let mut columns = Vec::new();
    for _ in 0..count {
        let name = reader.cstr()?.to_vec();
        let table_oid = reader.u32()?;
        let attnum = reader.i16()?;
        let type_oid = reader.u32()?;
        let (_length, modifier) = (reader.i16()?, reader.i32()?);
        let format = match reader.u16()? {
            0 => Format::Text,
            1 => Format::Binary,
            _ => return None,
        };
        columns.push(Column { name, table_oid, attnum, type_oid, modifier, format });
    }
    reader.is_empty().then_some(columns)
}

/// Reads a ParameterDescription's body; `None` where it is malformed.
pub(super) fn parameter_description(body: &[u8]) -> Option<Box<[u32]>> {
    let mut reader = Reader::new(body);
    let count = reader.u16()?;
    let types = (0..count).map(|_| reader.u32()).collect::<Option<_>>()?;
    reader.is_empty().then_some(types)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_cut_and_decoded() {
        let mut body = b"\0\0\0\x02\0\0\0\x01\0\x03".to_vec();
        let long = "é".repeat(1_000);
        body.extend_from_slice(&2_000_i32.to_be_bytes());
        body.extend_from_slice(long.as_bytes());
        body.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 7]);
        body.extend_from_slice(&[0xff; 4]);
        body.extend_from_slice(&[0, 1, 0, 1]);
        // Two formats for three parameters: the third is text, as nothing says otherwise.
        let bind = Bind::read(&body).unwrap();
        assert_eq!(bind.formats, Formats::All(Format::Binary));
        let types = [25, 23, 25];
        let parameters = bind.parameters(|at| types[at]);
        let [long, number, null] = &*parameters else { panic!("{parameters:?}") };
        let ParameterValue::Text { text, bytes: 2_000 } = &long.value else { panic!("{long:?}") };
        assert_eq!(text.len(), 1_024);
        assert_eq!(number.value, ParameterValue::Text { text: "7".into(), bytes: 4 });
        assert_eq!(null.value, ParameterValue::Null);
        for cut in 0..body.len() {
            assert!(Bind::read(&body[..cut]).is_none(), "{cut}");
        }
    }
}
