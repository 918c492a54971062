//! What a server's answer gives away, read in every way that an attack may have written it.

use std::collections::HashSet;

use serde_json::Value;

use super::cases::{Attack, Expected, Ordinary};
use super::client::{Answer, Said};
use super::report::Row;

/// The fewest letters or digits of a value that count as having it: no chance finds those.
const LEAST: usize = 5;

/// Judges an attack by what it said directly and behind vestibule, and by its records.
pub(super) fn judge(
    attack: &Attack,
    direct: &Answer,
    seen: &Answer,
    secrets: &[String],
    known: &HashSet<String>,
    events: &[Value],
) -> Row {
    let proven = gives(direct, secrets, &attack.undo);
    let leak = WAYS
        .iter()
        .find(|way| gives(seen, secrets, way))
        .map(|way| format!("what it is after, {way}"))
        .or_else(|| plain_known(seen, known).map(|value| format!("{value}, plain")));
    let wrong = is_wrong(attack, seen, events);
    Row { attack: attack.name.clone(), expected: attack.expected.clone(), proven, leak, wrong }
}

/// Ways back from what is said to what was hidden.
const WAYS: [&str; 9] =
    ["plain", "reverse", "hex", "base64", "digits", "rows", "codes", "letters", "oracle"];

/// Whether an answer holds one of the secrets, written this way.
fn gives(answer: &Answer, secrets: &[String], way: &str) -> bool {
    secrets.iter().any(|secret| gives_one(answer, secret.trim(), way))
}

fn gives_one(answer: &Answer, secret: &str, way: &str) -> bool {
    if secret.len() < LEAST {
        return false;
    }
    let said = &answer.said;
    let raw = |wanted: &str| said.iter().any(|Said(_, payload, _)| payload.contains(wanted));
    let bare = digits(secret);
    match way {
        "plain" => raw(secret),
        "reverse" => raw(&secret.chars().rev().collect::<String>()),
        "hex" => {
            let nibble = |n: u8| char::from_digit(u32::from(n), 16).unwrap_or('?');
            let hex: String =
                secret.bytes().flat_map(|b| [nibble(b >> 4), nibble(b & 15)]).collect();
            said.iter().any(|Said(_, payload, _)| payload.to_lowercase().contains(&hex))
        }
        "base64" => raw(&base64(secret.as_bytes())),
        // Whatever stands between its digits, within a value or a row.
        "digits" => {
            bare.len() >= LEAST
                && said.iter().any(|said| {
                    let row: String = texts(said).collect();
                    digits(&row).contains(&bare) || texts(said).any(|t| digits(t).contains(&bare))
                })
        }
        // A piece in each row, in any column.
        "rows" => bare.len() >= LEAST && (0..8).any(|at| digits(&column(said, at)).contains(&bare)),
        // Character codes, one after the other.
        "codes" => {
            let numbers = |text: &str| -> String {
                text.split(|c: char| !c.is_ascii_digit())
                    .filter_map(|n| n.parse::<u8>().ok())
                    .filter(|n| (32..127).contains(n))
                    .map(char::from)
                    .collect()
            };
            let all: Vec<String> =
                said.iter().map(|s| texts(s).collect::<Vec<_>>().join(" ")).collect();
            numbers(&all.join(" ")).contains(secret)
        }
        "letters" => {
            let written: String = secret
                .chars()
                .map(|c| c.to_digit(10).and_then(|d| char::from_u32(d + 97)).unwrap_or(c))
                .collect();
            raw(&written)
        }
        // The digits that its mask hides.
        "oracle" => {
            let recovered = digits(&answer.recovered);
            recovered.len() >= LEAST && bare.starts_with(&recovered)
        }
        _ => false,
    }
}

fn texts(Said(kind, payload, cells): &Said) -> impl Iterator<Item = &str> {
    // COPY data and notifications have no cells.
    let whole = matches!(kind.as_str(), "d" | "A" | "S").then_some(payload.as_str());
    cells.iter().flatten().map(String::as_str).chain(whole)
}

fn column(said: &[Said], at: usize) -> String {
    let rows = said.iter().filter(|Said(kind, ..)| kind == "D");
    let cells = rows.filter_map(|Said(_, _, cells)| cells.get(at)?.as_deref());
    let copied = said.iter().filter(|Said(kind, ..)| kind == "d" && at == 0);
    cells.chain(copied.map(|Said(_, payload, _)| payload.as_str())).collect()
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// A masked number of the bank in plain.
fn plain_known(answer: &Answer, known: &HashSet<String>) -> Option<String> {
    let found = |payload: &str, length: usize| {
        (0..payload.len()).find_map(|at| {
            let part = payload.get(at..at + length)?;
            known.contains(part).then(|| part.to_owned())
        })
    };
    answer
        .said
        .iter()
        .find_map(|Said(_, payload, _)| found(payload, 11).or_else(|| found(payload, 16)))
}

/// What is wrong about why an attack brought nothing.
fn is_wrong(attack: &Attack, seen: &Answer, events: &[Value]) -> Option<String> {
    let text = |event: &Value, key: &str| event.get(key).and_then(Value::as_str).map(str::to_owned);
    let errors: Vec<&str> = seen
        .said
        .iter()
        .filter(|Said(kind, ..)| matches!(kind.as_str(), "E" | "N"))
        .map(|Said(_, payload, _)| payload.as_str())
        .collect();
    let denied: Vec<String> = events
        .iter()
        .filter(|e| text(e, "decision").as_deref() == Some("deny"))
        .filter_map(|e| text(e, "rule_id"))
        .collect();
    if events.is_empty() {
        return Some("there is no record of it".to_owned());
    }
    match &attack.expected {
        Expected::Deny(rule, words) => {
            let told = errors.iter().any(|e| e.contains("42501") && e.contains(words.as_str()));
            (!denied.contains(rule) || !told)
                .then(|| format!("refused by {denied:?}, told {:?}", last(&errors)))
        }
        _ if !denied.is_empty() => Some(format!("refused by {denied:?}: {:?}", last(&errors))),
        Expected::Mask(class) => {
            let masked: Vec<String> = events.iter().map(|e| e["masked"].to_string()).collect();
            (!masked.iter().any(|m| m.contains(class.as_str())))
                .then(|| format!("masked {masked:?}, told {:?}", last(&errors)))
        }
        Expected::Withhold => (!errors.iter().any(|e| e.contains("[withheld")))
            .then(|| format!("told {:?}", last(&errors))),
        Expected::Nothing => None,
    }
}

fn last<'a>(errors: &[&'a str]) -> &'a str {
    errors.last().copied().unwrap_or_default()
}

/// The first difference between a direct answer and one behind vestibule that is not a mask's.
pub(super) fn compare(case: &Ordinary, direct: &Answer, seen: &Answer) -> Option<String> {
    let kinds = |answer: &Answer| -> String {
        answer.said.iter().map(|Said(kind, ..)| kind.as_str()).collect()
    };
    if direct.said.iter().any(|Said(kind, ..)| matches!(kind.as_str(), "E" | "!")) {
        return Some(format!("it fails directly: {:?}", direct.said));
    }
    if kinds(direct) != kinds(seen) {
        let told = seen.said.iter().find(|Said(kind, ..)| matches!(kind.as_str(), "E" | "!"));
        return Some(format!("{} became {}: {told:?}", kinds(direct), kinds(seen)));
    }
    let mut names: Vec<String> = Vec::new();
    let mut is_masked = vec![false; case.masked.len()];
    for (want, got) in direct.said.iter().zip(&seen.said) {
        match want.0.as_str() {
            "T" => {
                names = want.2.iter().flatten().cloned().collect();
                if want.2 != got.2 {
                    return Some(format!("columns {:?} became {:?}", want.2, got.2));
                }
                continue;
            }
            "D" => {}
            // COPY's lines, tags and the like.
            _ if want.1 == got.1 || matches!(want.0.as_str(), "K" | "S") => continue,
            _ if !case.masked.is_empty() && want.0 == "d" => {
                is_masked.fill(true);
                if let Some(difference) = copied(case, &want.1, &got.1) {
                    return Some(difference);
                }
                continue;
            }
            _ => return Some(format!("{:?} became {:?}", want.1, got.1)),
        }
        for (at, (want, got)) in want.2.iter().zip(&got.2).enumerate() {
            let place = (at + 1).to_string();
            let name = names.get(at).unwrap_or(&place);
            let entry = case.masked.iter().position(|m| m == name || *m == place);
            match entry {
                Some(entry) if want != got => {
                    if let Some(seen) = is_masked.get_mut(entry) {
                        *seen = true;
                    }
                }
                Some(_) if want.is_some() && want.as_deref() != Some("") => {
                    return Some(format!("{name} is not masked: {got:?}"));
                }
                None if want != got => return Some(format!("{name}: {want:?} became {got:?}")),
                _ => {}
            }
        }
    }
    let missing = case.masked.iter().zip(is_masked).find(|(_, seen)| !seen);
    missing.map(|(name, _)| format!("nothing of {name} was masked"))
}

/// The first difference of a line of COPY, by its columns from 1.
fn copied(case: &Ordinary, want: &str, got: &str) -> Option<String> {
    let apart = if want.contains('\t') { '\t' } else { ',' };
    let (wanted, given): (Vec<&str>, Vec<&str>) =
        (want.trim_end().split(apart).collect(), got.trim_end().split(apart).collect());
    if wanted.len() != given.len() {
        return Some(format!("{want:?} became {got:?}"));
    }
    wanted.iter().zip(&given).enumerate().find_map(|(at, (want, got))| {
        let masked = case.masked.contains(&(at + 1).to_string());
        (!masked && want != got).then(|| format!("column {}: {want:?} became {got:?}", at + 1))
    })
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |six: u32| LETTERS.get(six as usize & 63).map_or('=', |b| char::from(*b));
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| chunk.get(at).copied().map_or(0, u32::from);
        let three = byte(0) << 16 | byte(1) << 8 | byte(2);
        text.push(letter(three >> 18));
        text.push(letter(three >> 12));
        text.push(if chunk.len() > 1 { letter(three >> 6) } else { '=' });
        text.push(if chunk.len() > 2 { letter(three) } else { '=' });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(cells: &[&[&str]], recovered: &str) -> Answer {
        let said = cells.iter().map(|row| {
            let cells: Vec<_> = row.iter().map(|c| Some((*c).to_owned())).collect();
            Said("D".to_owned(), row.join("\0"), cells)
        });
        Answer { name: "x".into(), said: said.collect(), recovered: recovered.into() }
    }

    #[test]
    fn each_way_back_is_found() {
        let secret = ["123-45-6789".to_owned()];
        for (way, cells, recovered) in [
            ("plain", &[&["a 123-45-6789"][..]][..], ""),
            ("reverse", &[&["9876-54-321"]], ""),
            ("hex", &[&["\\x3132332D34352D36373839"]], ""),
            ("base64", &[&["MTIzLTQ1LTY3ODk="]], ""),
            ("digits", &[&["1 2 3", "4 5 6 7 8 9"]], ""),
            ("rows", &[&["12"], &["345"], &["6789"]], ""),
            ("codes", &[&["49,50,51,45,52,53,45"], &["54,55,56,57"]], ""),
            ("letters", &[&["bcd-ef-ghij"]], ""),
            ("oracle", &[&["x"]], "123-45"),
        ] {
            let answer = answer(cells, recovered);
            assert!(gives(&answer, &secret, way), "{way}");
            assert!(!gives(&answer, &["987-65-4320".to_owned()], way), "{way}");
        }
    }

    #[test]
    fn a_masked_number_in_plain_is_found_wherever_it_stands() {
        let known = HashSet::from(["123-45-6789".to_owned(), "4000000000000002".to_owned()]);
        assert!(plain_known(&answer(&[&["x123-45-6789y"]], ""), &known).is_some());
        assert!(plain_known(&answer(&[&["4000000000000002"]], ""), &known).is_some());
        assert!(plain_known(&answer(&[&["***-**-6789"]], ""), &known).is_none());
    }
}
