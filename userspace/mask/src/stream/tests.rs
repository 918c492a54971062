use std::sync::Arc;

use types::redact::{MaskRule, Operator};
use types::secret::Secret;

use super::{Form, HELD_BYTES_MAX, TextStream};
use crate::Masks;
use crate::classification::Classification;

const CLASSES: &str = r#"
[[class]]
name = "us_ssn"
columns = ["*.ssn"]
recognizer = "us_ssn"
[[class]]
name = "card_number"
recognizer = "card_number"
[[class]]
name = "email"
recognizer = "email"
[[class]]
name = "phone"
recognizer = "phone"
[[class]]
name = "salary"
columns = ["staff.salary"]
"#;

fn masks() -> Arc<Masks> {
    let classification = Classification::parse(CLASSES).unwrap();
    let operator =
        |name: &str| if name == "card_number" { Operator::Partial } else { Operator::Replace };
    let rules: Vec<MaskRule> = classification
        .classes
        .iter()
        .map(|class| MaskRule { class: class.name.clone(), operator: operator(&class.name.0) })
        .collect();
    Masks::compile(&rules, &classification, &Secret::new([7; 32]))
}

fn masked(form: Form, text: &[u8], chunk: usize) -> (String, u64) {
    let mut stream = TextStream::new(masks(), form);
    let mut out = Vec::new();
    for piece in text.chunks(chunk) {
        stream.push(piece, &mut out);
    }
    stream.finish(&mut out);
    let count = stream.counts().iter().map(|one| one.count).sum();
    (String::from_utf8(out).unwrap(), count)
}

/// Whatever the chunks, the same comes out.
#[track_caller]
fn check(form: Form, text: &str, expected: &str, count: u64) {
    for chunk in [1, 2, 3, 5, 7, 16, 64, text.len().max(1)] {
        assert_eq!(
            masked(form, text.as_bytes(), chunk),
            (expected.to_owned(), count),
            "by {chunk}"
        );
    }
}

#[test]
fn plain_texts() {
    check(Form::Plain, "no value, at all\n", "no value, at all\n", 0);
    check(
        Form::Plain,
        "ssn 078-05-1120, mail jo@bank.example\ncard 4111 1111 1111 1111",
        "ssn [us_ssn], mail [email]\ncard **** **** **** 1111",
        3,
    );
    check(Form::Plain, "", "", 0);
}

#[test]
fn json_stays_json() {
    for (text, expected, count) in [
        (
            r#"{"note":"call 415-555-2671, or jo@bank.example","n":4111111111111111,"x":-1.5e3}"#,
            r#"{"note":"call [phone], or [email]","n":"************1111","x":-1.5e3}"#,
            3,
        ),
        ("[4111111111111111, -4111111111111111]", r#"["************1111", "************1111"]"#, 2),
        // Names count.
        (
            r#"{"ssn": "078051120", "ssn2": "078051120"}"#,
            r#"{"ssn": "[us_ssn]", "ssn2": "[us_ssn]"}"#,
            2,
        ),
        (r#"{"id": 78051120, "ssn": 78051120}"#, r#"{"id": 78051120, "ssn": "[us_ssn]"}"#, 1),
        (
            r#"{"salary": 5000, "SALARY":"a\"b", "salary":null}"#,
            r#"{"salary": "[salary]", "SALARY":"[salary]", "salary":null}"#,
            2,
        ),
        (
            r#"{"salary":[1,true,[2]],"n":1}"#,
            r#"{"salary":["[salary]","[salary]",["[salary]"]],"n":1}"#,
            3,
        ),
        (r#"{"salary":[{"a":1},2],"b":3}"#, r#"{"salary":[{"a":"[salary]"},"[salary]"],"b":3}"#, 2),
        (
            r#"{"phones":["4155552671"],"n":"4155552671"}"#,
            r#"{"phones":["[phone]"],"n":"4155552671"}"#,
            1,
        ),
        // Nothing hides behind an escape.
        (r#"{"m":"jo\u0040bank.example\n\u00e9\/"}"#, "{\"m\":\"[email]\\n\\u00e9/\"}", 1),
        (r#"{"m":"a\\\"jo@bank.example\""}"#, "{\"m\":\"a\\\\\\\"[email]\\\"\"}", 1),
        ("{\"a\":1}\n{\"m\":\"jo@bank.example\"}\n", "{\"a\":1}\n{\"m\":\"[email]\"}\n", 1),
        // What is no JSON comes through, masked as text.
        (r#"]]}"x jo@bank.example"#, r#"]]}"x [email]"#, 1),
    ] {
        check(Form::Json, text, expected, count);
    }
}

#[test]
fn much_that_nothing_divides_is_masked_in_pieces() {
    for form in [Form::Plain, Form::Json] {
        let filler = "x ".repeat(HELD_BYTES_MAX / 2 - 8);
        let text = format!("\"{filler}jo@bank.example {filler}078-05-1120 {filler}\"");
        let (seen, count) = masked(form, text.as_bytes(), 1000);
        assert_eq!(seen, format!("\"{filler}[email] {filler}[us_ssn] {filler}\""));
        assert_eq!(count, 2);
    }
    let long = "9".repeat(5 * HELD_BYTES_MAX);
    let (seen, count) =
        masked(Form::Json, format!(r#"{{"salary":"{long}","n":1}}"#).as_bytes(), 999);
    assert_eq!((&*seen, count), (r#"{"salary":"[salary]","n":1}"#, 1));
}
