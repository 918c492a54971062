//! Which parts of a path are names, and which are values: records of events hold the names alone.
//!
//! A name is made of words, as people write them; whatever has digits in it, is long, or mixes cases as random
//! characters do, is a value. A value that is one plain word (`/users/alice`) can't be told from a name.

use std::collections::VecDeque;

/// A path with `$1`, `$2`, … in the place of values.
pub(super) fn path(parts: &[String]) -> String {
    let mut number = 0;
    written(parts, &mut number)
}

/// A request's line with its values so replaced, those of the query all of them.
pub(super) fn request(verb: &str, parts: &[String], parameters: &[(&str, Option<&str>)]) -> String {
    let mut number = 0;
    let mut text = format!("{verb} {}", written(parts, &mut number));
    for (at, (name, value)) in parameters.iter().enumerate() {
        text.push(if at == 0 { '?' } else { '&' });
        text.push_str(&shown(name, &mut number));
        if value.is_some() {
            number += 1;
            text.push_str("=$");
            text.push_str(&number.to_string());
        }
    }
    text
}

fn written(parts: &[String], number: &mut usize) -> String {
    parts.iter().fold(String::new(), |path, part| path + "/" + &shown(part, number))
}

fn shown(part: &str, number: &mut usize) -> String {
    if part.is_empty() || is_name(part) {
        return part.to_owned();
    }
    *number += 1;
    format!("${number}")
}

/// Whether a part is a name and no value.
pub(super) fn is_name(part: &str) -> bool {
    if part.is_empty() || part.len() > NAME_BYTES_MAX {
        return false;
    }
    let mut words = part.split(['-', '_', '.']).filter(|word| !word.is_empty());
    part.bytes().any(|byte| byte.is_ascii_alphabetic()) && words.all(is_word)
}

/// Letters in one case, or with humps; and at most a number of two digits behind them (`oauth2`).
fn is_word(word: &str) -> bool {
    let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
    if letters.is_empty() || word.len() - letters.len() > 2 || word.len() > WORD_BYTES_MAX {
        return is_version(word);
    }
    if !letters.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return is_version(word);
    }
    let capitals = letters.bytes().filter(u8::is_ascii_uppercase).count();
    let is_hex = letters.len() >= 8 && letters.bytes().all(|byte| byte.is_ascii_hexdigit());
    // A hump has three letters on average at least: `accountHolders`, not `dGhpc2lz`.
    !is_hex && (capitals == 0 || capitals == letters.len() || capitals * 3 <= letters.len())
}

/// `v1`, `v2beta1`.
fn is_version(word: &str) -> bool {
    let mut rest: VecDeque<char> = word.chars().collect();
    let digits = |rest: &mut VecDeque<char>| {
        let mut count = 0;
        while count < 2 && rest.front().is_some_and(char::is_ascii_digit) {
            rest.pop_front();
            count += 1;
        }
        count > 0
    };
    if rest.pop_front() != Some('v') || !digits(&mut rest) {
        return false;
    }
    let stage: String = rest.iter().take_while(|c| c.is_ascii_alphabetic()).collect();
    rest.drain(..stage.len());
    match &*stage {
        "" => rest.is_empty(),
        "alpha" | "beta" => digits(&mut rest) && rest.is_empty(),
        _ => false,
    }
}

/// `application-configuration-snapshots`, and some.
const NAME_BYTES_MAX: usize = 48;

/// `internationalizations`; longer runs of letters are rather tokens.
const WORD_BYTES_MAX: usize = 24;
