//! Blind tokens: values that statements name, hashed under a key, so that who asked for a value can be found by whoever
//! has both the key and the value, and no record holds it.
//!
//! A token is the first 8 bytes of HMAC-SHA-256 over the class's name, a zero byte and the value as [`TokenForm`]
//! writes it. Whoever has the key can try values: it belongs where other secrets are, and never in the archive.

use std::collections::BTreeSet;
use std::sync::Arc;

use hmac::{Hmac, Mac};
use serde::Deserialize;
use sha2::Sha256;
use types::command::{
    Analysis, BlindToken, BlindTokens, Class, Parameter, ParameterValue, PreparedUse, TableName,
    ValueAt,
};
use types::limits::{BLIND_TOKENS_MAX, PARAMETER_BYTES_MAX};
use types::secret::Secret;

use super::catalog::Catalog;
use super::classification::{ClassRule, Classification};

/// How a class's values are written before they are hashed, so that one value has one token however it was spelt; the
/// names in `classification.toml` are these in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenForm {
    /// As it is.
    Exact,
    /// In lower case (Unicode), without space around it, a run of space as one.
    Caseless,
    /// A decimal number without needless zeros, sign or exponent: `4711`, `04711`, `4711.0` and `4.711e3` are one. What
    /// is no number is as in `caseless`.
    Number,
    /// Its digits alone: `123-45-6789` and `123456789` are one.
    Digits,
    /// Its letters and digits alone, in upper case: `DE12 3456` and `de123456` are one.
    Alphanumeric,
}

impl TokenForm {
    /// The word in `classification.toml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Caseless => "caseless",
            Self::Number => "number",
            Self::Digits => "digits",
            Self::Alphanumeric => "alphanumeric",
        }
    }

    /// The value as it is hashed; none where nothing is left of it.
    pub fn written(self, value: &str) -> Option<String> {
        let written: String = match self {
            Self::Exact => value.to_owned(),
            Self::Caseless => caseless(value),
            Self::Number => number(value.trim()).unwrap_or_else(|| caseless(value)),
            Self::Digits => value.chars().filter(char::is_ascii_digit).collect(),
            Self::Alphanumeric => {
                value.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_uppercase).collect()
            }
        };
        (!written.is_empty()).then_some(written)
    }
}

/// A key of tokens.
pub struct BlindKey {
    id: Box<str>,
    hmac: Hmac<Sha256>,
}

impl BlindKey {
    /// A key by its id, which says nothing of it.
    pub fn new(id: &str, key: &Secret<[u8; 32]>) -> Self {
        let hmac = Hmac::new_from_slice(key.expose()).expect("HMAC takes any key length");
        Self { id: id.into(), hmac }
    }

    /// Which it is.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The token of one value of a class; none where the class has none, or nothing is left of the value.
    pub fn token(&self, class: &ClassRule, value: &str) -> Option<BlindToken> {
        let written = class.tokens?.written(value)?;
        let mut hmac = self.hmac.clone();
        hmac.update(class.name.0.as_bytes());
        hmac.update(&[0]);
        hmac.update(written.as_bytes());
        hmac.finalize().into_bytes().first_chunk::<8>().copied().map(BlindToken)
    }
}

impl std::fmt::Debug for BlindKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlindKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Which values of a statement get tokens; holds for every execution of it.
#[derive(Debug)]
pub struct Blinding {
    /// The class, by its place, and the value.
    wanted: Vec<(usize, ValueAt)>,
    is_cut: bool,
}

impl Blinding {
    /// What the columns of a statement meet that hold a class with tokens, in a database whose columns are `catalog`'s.
    pub fn of(classification: &Classification, catalog: &Catalog, statement: &Analysis) -> Self {
        let classes_of = |table: &TableName, column: &str| -> Vec<usize> {
            let named = catalog.classes_named(classification, table, column);
            let places = named.into_iter().filter_map(|name| {
                let is_it = |rule: &ClassRule| rule.name == *name && rule.tokens.is_some();
                classification.classes.iter().position(is_it)
            });
            places.collect()
        };
        let mut wanted: BTreeSet<(usize, ValueAt)> = BTreeSet::new();
        for met in &statement.compared.columns {
            for class in classes_of(&met.column.table, &met.column.column) {
                wanted.extend(met.values.iter().map(|value| (class, *value)));
            }
        }
        // What comes by COPY is no value of the statement, and of a statement with too many nobody knows whose.
        let takes_in = statement.class() >= Class::Write;
        let copied =
            statement.copy.as_ref().filter(|_| takes_in).and_then(|copy| copy.table.as_ref());
        let is_cut = statement.compared.is_cut
            || copied.is_some_and(|table| !classes_of(table, "*").is_empty());
        Self { wanted: wanted.into_iter().collect(), is_cut }
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty() && !self.is_cut
    }

    /// Whether any of them stands in the text as a plain constant.
    pub fn reads_text(&self) -> bool {
        self.wanted.iter().any(|(_, at)| matches!(at, ValueAt::Plain { .. }))
    }

    /// The tokens of one execution: of a text with these plain constants, the analysis's own, and these parameters.
    pub fn tokens(
        &self,
        (classification, key): (&Classification, &BlindKey),
        (plain, statement): (&[&str], &Analysis),
        parameters: &[Parameter],
    ) -> BlindTokens {
        let mut tokens = Tokens { key, found: BTreeSet::new(), is_cut: self.is_cut };
        let prepares = matches!(statement.prepared, Some(PreparedUse::Prepares { .. }));
        for (class, at) in &self.wanted {
            let Some(class) = classification.classes.get(*class) else { continue };
            let place = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
            match *at {
                ValueAt::Plain { at, is_negative } => match plain.get(place(at)) {
                    Some(value) if is_negative => tokens.value(class, &format!("-{value}")),
                    Some(value) => tokens.value(class, value),
                    None => tokens.is_cut = true,
                },
                ValueAt::Constant(at) => match statement.compared.constants.get(place(at)) {
                    Some(value) => tokens.value(class, value),
                    None => tokens.is_cut = true,
                },
                // They come with an EXECUTE.
                ValueAt::Parameter(_) if prepares => {}
                ValueAt::Parameter(number) => {
                    let parameter = place(number).checked_sub(1).and_then(|at| parameters.get(at));
                    tokens.parameter(class, parameter);
                }
            }
        }
        tokens.told()
    }
}

/// The tokens of values that have names: parameters of a query, parts of a path behind what names them.
pub fn named(
    (classification, key): (&Classification, &BlindKey),
    values: &[(Arc<str>, Arc<str>)],
) -> BlindTokens {
    let mut tokens = Tokens { key, found: BTreeSet::new(), is_cut: false };
    for (name, value) in values {
        let classes = classification.classes.iter();
        for class in classes.filter(|class| class.tokens.is_some() && class.covers_name(name)) {
            tokens.value(class, value);
        }
    }
    tokens.told()
}

/// The tokens that one value has: of a list, those of each of its elements.
pub fn of_value(class: &ClassRule, key: &BlindKey, value: &str) -> Vec<BlindToken> {
    let mut tokens = Tokens { key, found: BTreeSet::new(), is_cut: false };
    tokens.value(class, value);
    tokens.told().tokens
}

struct Tokens<'k> {
    key: &'k BlindKey,
    found: BTreeSet<BlindToken>,
    is_cut: bool,
}

impl Tokens<'_> {
    fn told(self) -> BlindTokens {
        let is_cut = self.is_cut || self.found.len() > BLIND_TOKENS_MAX;
        BlindTokens { tokens: self.found.into_iter().take(BLIND_TOKENS_MAX).collect(), is_cut }
    }

    fn value(&mut self, class: &ClassRule, value: &str) {
        match elements(value) {
            Some((elements, _)) => {
                for one in &elements {
                    self.one(class, one);
                }
            }
            None => self.one(class, value),
        }
    }

    fn one(&mut self, class: &ClassRule, value: &str) {
        if self.found.len() > BLIND_TOKENS_MAX || value.len() > PARAMETER_BYTES_MAX {
            self.is_cut = true;
            return;
        }
        self.found.extend(self.key.token(class, value));
    }

    fn parameter(&mut self, class: &ClassRule, parameter: Option<&Parameter>) {
        match parameter.map(|parameter| &parameter.value) {
            Some(ParameterValue::Null) => {}
            Some(ParameterValue::Text { text, bytes }) => {
                // Cut before a character that would not be whole.
                let is_cut = text.len() + 4 > PARAMETER_BYTES_MAX
                    && usize::try_from(*bytes).is_ok_and(|bytes| bytes > text.len());
                match elements(text) {
                    Some((elements, is_whole)) => {
                        self.is_cut |= !is_whole;
                        for one in &elements {
                            self.one(class, one);
                        }
                    }
                    None if is_cut => self.is_cut = true,
                    None => self.one(class, text),
                }
            }
            Some(ParameterValue::Binary { .. }) | None => self.is_cut = true,
        }
    }
}

/// The elements of an array as PostgreSQL writes it in text (documentation §8.15.6), NULLs left out, and whether its
/// end is there; `None` where it is no array. Those of arrays in it are among them.
fn elements(text: &str) -> Option<(Vec<String>, bool)> {
    let inside = text.trim_start().strip_prefix('{')?;
    let (mut found, mut one, mut quoted, mut was_quoted) =
        (Vec::new(), String::new(), false, false);
    let (mut depth, mut chars) = (1_usize, inside.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => one.extend(chars.next()),
            '"' => {
                if !was_quoted {
                    // Space before it.
                    one.clear();
                }
                (quoted, was_quoted) = (!quoted, true);
            }
            _ if quoted => one.push(c),
            _ if was_quoted && c.is_whitespace() => {}
            '{' => depth += 1,
            ',' | '}' => {
                let element = std::mem::take(&mut one);
                let is_null = !was_quoted && element.trim().eq_ignore_ascii_case("null");
                let is_there = was_quoted || !element.trim().is_empty();
                if is_there && !is_null {
                    found.push(if was_quoted { element } else { element.trim().to_owned() });
                }
                was_quoted = false;
                depth -= usize::from(c == '}');
                if depth == 0 {
                    // What stands behind its end makes it something else.
                    return chars.as_str().trim().is_empty().then_some((found, true));
                }
            }
            _ => one.push(c),
        }
    }
    // The last one may be the beginning of another value.
    Some((found, false))
}

fn caseless(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// A decimal number in one form; `None` where it is none, or has an exponent beyond 64.
fn number(value: &str) -> Option<String> {
    let (sign, rest) = match value.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", value.strip_prefix('+').unwrap_or(value)),
    };
    let (digits, exponent) = match rest.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (rest, 0),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_one = !(whole.is_empty() && part.is_empty()) && are_digits(whole) && are_digits(part);
    if !is_one || exponent.abs() > 64 {
        return None;
    }
    let mut all: String = format!("{whole}{part}");
    let mut point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?;
    if point < 0 {
        all = "0".repeat(usize::try_from(-point).ok()?) + &all;
        point = 0;
    }
    let point = usize::try_from(point).ok()?;
    if all.len() < point {
        all.push_str(&"0".repeat(point - all.len()));
    }
    let (whole, part) = all.split_at(point);
    let (whole, part) = (whole.trim_start_matches('0'), part.trim_end_matches('0'));
    Some(match (whole, part) {
        ("", "") => "0".to_owned(),
        (whole, "") => format!("{sign}{whole}"),
        ("", part) => format!("{sign}0.{part}"),
        (whole, part) => format!("{sign}{whole}.{part}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_written_in_one_way() {
        for (form, spellings, want) in [
            (
                TokenForm::Number,
                &["4711", "04711", "+4711", " 4711 ", "4711.00", "4.711e3", "47110e-1"][..],
                "4711",
            ),
            (TokenForm::Number, &["-0.50", "-.5", "-5e-1"], "-0.5"),
            (TokenForm::Number, &["0", "-0", "0.000", "0e9"], "0"),
            (TokenForm::Number, &["1e400", "1E400"], "1e400"),
            (TokenForm::Number, &["A 7", " a  7"], "a 7"),
            (TokenForm::Caseless, &["Ada@Bank.Example", " ada@bank.example "], "ada@bank.example"),
            (TokenForm::Digits, &["123-45-6789", "123456789", "123 45 6789"], "123456789"),
            (TokenForm::Alphanumeric, &["DE12 3456", "de123456", "De-12.3456"], "DE123456"),
            (TokenForm::Exact, &[" A "], " A "),
        ] {
            for value in spellings {
                assert_eq!(form.written(value).as_deref(), Some(want), "{form:?} {value:?}");
            }
        }
        assert_eq!(TokenForm::Digits.written("none"), None);
    }

    #[test]
    fn arrays_are_their_elements() {
        for (text, want, is_whole) in [
            ("{}", &[][..], true),
            ("{1,2}", &["1", "2"], true),
            (" { 1 , NULL,\"a,b\", \"null\" } ", &["1", "a,b", "null"], true),
            (r#"{"a\"b",c\,d}"#, &["a\"b", "c,d"], true),
            ("{{1,2},{3,4}}", &["1", "2", "3", "4"], true),
            ("{1,2,3", &["1", "2"], false),
        ] {
            let (found, whole) = elements(text).unwrap();
            assert_eq!(
                (found.as_slice(), whole),
                (&want.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()[..], is_whole),
                "{text}"
            );
        }
        for text in ["1", "", "{1} and more", "a{1}"] {
            assert_eq!(elements(text), None, "{text}");
        }
    }

    #[test]
    fn tokens_are_of_their_key_and_class() {
        let classification = Classification::parse(
            "[[class]]\nname = \"account\"\ncolumns = [\"a.id\"]\ntokens = \"number\"\n\
             [[class]]\nname = \"branch\"\ncolumns = [\"a.branch\"]\ntokens = \"number\"\n\
             [[class]]\nname = \"other\"\ncolumns = [\"a.other\"]\n",
        )
        .unwrap();
        let [account, branch, other] = classification.classes.as_slice() else { panic!() };
        let key = |byte| BlindKey::new("k", &Secret::new([byte; 32]));
        let token = |class, byte, value| key(byte).token(class, value);
        assert_eq!(token(account, 1, "4711"), token(account, 1, "04711.0"));
        // HMAC-SHA-256 of "account\0004711" under 32 bytes of 1, computed with Python's hmac.
        assert_eq!(types::hex::hex(&token(account, 1, "4711").unwrap().0), "1e0670a5969ee4b3");
        assert_ne!(token(account, 1, "4711"), token(account, 1, "4712"));
        assert_ne!(token(account, 1, "4711"), token(account, 2, "4711"));
        assert_ne!(token(account, 1, "4711"), token(branch, 1, "4711"));
        assert_eq!(token(other, 1, "4711"), None);
        assert_eq!(of_value(account, &key(1), "{4711,4712}").len(), 2);
    }
}
