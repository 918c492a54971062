//! A column of strings, as values or as places in a dictionary: files have most of them so, and what comes a thousand
//! times need not be copied a thousand times to be looked at.

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, Int32Array, StringArray};

/// Strings of a column.
#[derive(Clone, Copy)]
pub(crate) enum Strings<'a> {
    /// One behind the other.
    Plain(&'a StringArray),
    /// Their places among others, none of which is absent.
    Places(&'a Int32Array, &'a StringArray),
}

impl<'a> Strings<'a> {
    /// `None` where it is no column of strings.
    pub(crate) fn of(array: &'a ArrayRef) -> Option<Self> {
        if let Some(plain) = array.as_string_opt::<i32>() {
            return Some(Self::Plain(plain));
        }
        let dictionary = array.as_dictionary_opt::<Int32Type>()?;
        let values = dictionary.values().as_string_opt::<i32>()?;
        (values.null_count() == 0).then_some(Self::Places(dictionary.keys(), values))
    }

    /// The value of a row; `None` where it is absent.
    pub(crate) fn get(&self, row: usize) -> Option<&'a str> {
        (!self.is_null(row)).then(|| self.value(row))
    }

    /// The value of a row; what is absent may say anything.
    pub(crate) fn value(&self, row: usize) -> &'a str {
        let (values, at) = self.place(row);
        if at < values.len() { values.value(at) } else { "" }
    }

    #[inline]
    pub(crate) fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Plain(values) => values.is_null(row),
            Self::Places(places, _) => places.is_null(row),
        }
    }

    /// Where the value of a row that has one is.
    #[inline]
    pub(crate) fn place(&self, row: usize) -> (&'a StringArray, usize) {
        match self {
            Self::Plain(values) => (values, row),
            Self::Places(places, values) => {
                (values, usize::try_from(places.value(row)).unwrap_or(usize::MAX))
            }
        }
    }

    /// How many places there are that [`Strings::place`] may name.
    pub(crate) fn places(&self) -> usize {
        match self {
            Self::Plain(values) | Self::Places(_, values) => values.len(),
        }
    }

    /// Whether all rows have one value; false also where to say so would take long.
    pub(super) fn is_constant(&self) -> bool {
        match self {
            Self::Plain(values) => {
                let first = (!values.is_empty()).then(|| values.value(0));
                values.null_count() == 0 && values.iter().all(|value| value == first)
            }
            Self::Places(places, _) => {
                let first = places.values().first();
                places.null_count() == 0 && places.values().iter().all(|at| Some(at) == first)
            }
        }
    }

    /// How many rows have such a value.
    pub(super) fn count(&self, is: impl Fn(&str) -> bool) -> usize {
        match self {
            Self::Places(places, values) if values.len() < places.len() => {
                let are: Vec<bool> = values.iter().map(|value| value.is_some_and(&is)).collect();
                if !are.contains(&true) {
                    return 0;
                }
                let is_one = |at: i32| usize::try_from(at).ok().and_then(|at| are.get(at).copied());
                places.iter().flatten().filter(|at| is_one(*at) == Some(true)).count()
            }
            Self::Plain(_) | Self::Places(..) => {
                let rows = match self {
                    Self::Plain(values) => values.len(),
                    Self::Places(places, _) => places.len(),
                };
                (0..rows).filter(|row| self.get(*row).is_some_and(&is)).count()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::DictionaryArray;

    use super::*;

    #[test]
    fn both_ways_say_the_same() {
        for texts in [
            vec![Some("a"), None, Some("import.b"), Some("a"), Some("import.c"), Some("import.b")],
            vec![Some("a"); 5],
            vec![None; 3],
            vec![Some("b"), Some("a")],
            vec![],
        ] {
            let plain: ArrayRef = Arc::new(StringArray::from(texts.clone()));
            let dictionary: DictionaryArray<Int32Type> = texts.iter().copied().collect();
            let dictionary: ArrayRef = Arc::new(dictionary);
            let [plain, places] = [&plain, &dictionary].map(|array| Strings::of(array).unwrap());
            let is_mark = |value: &str| value.starts_with("import.");
            for (row, text) in texts.iter().enumerate() {
                assert_eq!((plain.get(row), places.get(row)), (*text, *text));
            }
            assert_eq!(plain.count(is_mark), places.count(is_mark), "{texts:?}");
            assert_eq!(plain.is_constant(), places.is_constant(), "{texts:?}");
        }
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1]));
        assert!(Strings::of(&numbers).is_none());
    }
}
