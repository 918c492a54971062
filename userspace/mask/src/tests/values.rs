//! Generated values of each kind, at any place in any text.

use proptest::prelude::*;

use crate::classification::RecognizerKind::{self, CardNumber, Email, Iban, Phone, UsAba, UsSsn};
use crate::recognizer::{Kinds, find};

const KINDS: [RecognizerKind; 6] = [UsSsn, CardNumber, Iban, UsAba, Email, Phone];

fn ssn() -> impl Strategy<Value = String> {
    (1u32..666, 1u32..100, 1u32..10_000, prop::sample::select(vec!["-", " "]))
        .prop_map(|(a, g, s, gap)| format!("{a:03}{gap}{g:02}{gap}{s:04}"))
}

/// A card number with its Luhn digit, bare or in groups of four.
fn card() -> impl Strategy<Value = String> {
    let heads = vec!["4", "51", "2221", "6011", "62", "81"];
    let gaps = vec!["", " ", "-"];
    (prop::sample::select(heads), "[0-9]{14}", prop::sample::select(gaps)).prop_map(
        |(head, rest, gap)| {
            let mut number = format!("{head}{rest}");
            number.truncate(15);
            let sum: u32 = (number.bytes().rev().enumerate())
                .map(|(at, b)| (u32::from(b - b'0'), at % 2 == 0))
                .map(|(d, double)| if double { d * 2 / 10 + d * 2 % 10 } else { d })
                .sum();
            number.push_str(&((10 - sum % 10) % 10).to_string());
            let groups = [&number[..4], &number[4..8], &number[8..12], &number[12..]];
            groups.join(gap)
        },
    )
}

/// An IBAN with its check digits, with blanks after every fourth character or without.
fn iban() -> impl Strategy<Value = String> {
    let countries = vec![("DE", 22), ("GB", 22), ("MT", 31), ("LC", 32), ("NO", 15), ("RU", 33)];
    let body = "[A-Z0-9]{29}";
    (prop::sample::select(countries), body, any::<bool>(), any::<bool>()).prop_map(
        |((country, length), body, spaced, lower)| {
            let body = &body[..length - 4];
            let rest = format!("{body}{country}00").bytes().fold(0u32, |rest, b| match b {
                b'0'..=b'9' => (rest * 10 + u32::from(b - b'0')) % 97,
                _ => (rest * 100 + u32::from(b - b'A') + 10) % 97,
            });
            let mut text = format!("{country}{:02}{body}", 98 - rest);
            if spaced {
                let groups: Vec<_> =
                    text.as_bytes().chunks(4).map(String::from_utf8_lossy).collect();
                text = groups.join(" ");
            }
            if lower { text.to_ascii_lowercase() } else { text }
        },
    )
}

fn value() -> impl Strategy<Value = (RecognizerKind, String)> {
    prop_oneof![
        ssn().prop_map(|text| (UsSsn, text)),
        card().prop_map(|text| (CardNumber, text)),
        iban().prop_map(|text| (Iban, text)),
        "[a-z]{1,9}[.+_][a-z0-9]{1,9}@[a-z]{1,9}\\.[a-z]{2,5}".prop_map(|text| (Email, text)),
        "\\+[1-9][0-9]{8,12}|[2-9][0-9]{2}-[2-9][0-9]{2}-[0-9]{4}".prop_map(|text| (Phone, text)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Alone a value is found as what it is, and with any text around it none of it stays.
    #[test]
    fn a_value_is_found_anywhere(
        (kind, text) in value(),
        before in "([ -~é]{0,90}[,;<\t\n])?",
        after in "([,;>\t\n][ -~é]{0,90})?",
    ) {
        let none = Kinds::default();
        let only = Kinds::only(kind);
        let alone: Vec<_> = find(text.as_bytes(), only, none).collect();
        prop_assert!(alone.len() == 1 && alone[0].range == (0..text.len()), "{text} {alone:?}");
        let all = KINDS.into_iter().fold(none, Kinds::with);
        let whole = format!("{before}{text}{after}");
        let (start, end) = (before.len(), before.len() + text.len());
        for kinds in [only, all] {
            let mut covered = start;
            for found in find(whole.as_bytes(), kinds, none) {
                if found.range.start <= covered {
                    covered = covered.max(found.range.end);
                }
            }
            prop_assert!(covered >= end, "{whole:?} {kind:?}");
        }
    }

    /// Findings are in order, apart, and cut no character, whatever the text.
    #[test]
    fn findings_are_apart(text in "([0-9]{1,9}|[a-zé語.@+ -]{0,40}|\\PC{0,5}){0,20}") {
        let all = KINDS.into_iter().fold(Kinds::default(), Kinds::with);
        let mut end = 0;
        for found in find(text.as_bytes(), all, all) {
            prop_assert!(found.range.start >= end && found.range.end > found.range.start);
            end = found.range.end;
            prop_assert!(text.is_char_boundary(found.range.start) && text.is_char_boundary(end));
        }
    }
}
