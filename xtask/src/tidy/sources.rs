//! The sources themselves: their size, their words, where `unsafe` stands.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use integration::paths;

use crate::command::{command, stdout_of};

/// Production lines of a file, inline tests not counted.
const FILE_LINES_MAX: usize = 600;

/// The median over all Rust files.
const FILE_LINES_MEDIAN_MAX: usize = 200;

/// A text file of the repository.
pub(super) struct File {
    /// Relative to the root.
    pub(super) path: String,
    pub(super) text: String,
}

impl File {
    /// Whether it holds Rust.
    pub(super) fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|e| e == "rs")
    }
}

/// Answers every text file that is, or is about to be, in the repository.
///
/// # Errors
/// If git can't list them.
pub(super) fn read() -> Result<Vec<File>> {
    let mut git = command("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let listed = stdout_of(&mut git).context("git can't list the files")?;
    let read = |path: &str| {
        // What is deleted but listed, or not text, has no words to check.
        let text = fs::read_to_string(paths::root().join(path)).ok()?;
        Some(File { path: path.to_owned(), text })
    };
    Ok(listed.lines().filter_map(read).collect())
}

/// Answers what is wrong with the files.
pub(super) fn check(files: &[File]) -> Vec<String> {
    let mut wrong: Vec<String> = files.iter().flat_map(check_file).collect();
    let mut sizes: Vec<usize> =
        files.iter().filter(|f| f.is_rust()).map(|f| production_lines(&f.text)).collect();
    sizes.sort_unstable();
    if let Some(median) = sizes.get(sizes.len() / 2).filter(|m| **m > FILE_LINES_MEDIAN_MAX) {
        wrong.push(format!("the median file has {median} lines; {FILE_LINES_MEDIAN_MAX} at most"));
    }
    wrong
}

fn check_file(file: &File) -> Vec<String> {
    let File { path, text } = file;
    let mut wrong = Vec::new();
    let root = paths::root().display().to_string();
    let production = production_lines(text);
    for (number, line) in text.lines().enumerate() {
        let mut say = |what: &str| wrong.push(format!("{path}:{}: {what}", number + 1));
        if line.contains(&root) {
            say("names this checkout's path");
        }
        if !file.is_rust() {
            continue;
        }
        if let Some(word) = WORDS.iter().map(|w| w.concat()).find(|word| line.contains(word)) {
            say(&format!("`{word}` has no place here"));
        }
        let reaches_out = IO_WORDS.iter().find(|word| code(line).contains(**word));
        if let Some(word) = reaches_out.filter(|_| number < production && is_pure(path)) {
            say(&format!(
                "`{word}`: types, proto, mask and policy do no I/O, read no clock, spawn nothing"
            ));
        }
        if has_unsafe(line) && !UNSAFE_IN.iter().any(|folder| path.starts_with(folder)) {
            say("`unsafe` outside of ebpf/ and userspace/redirect/");
        }
    }
    if file.is_rust() && production > FILE_LINES_MAX {
        wrong.push(format!("{path}: {production} production lines; {FILE_LINES_MAX} at most"));
    }
    wrong
}

/// Where the kernel is spoken to.
const UNSAFE_IN: &[&str] = &["ebpf/", "userspace/redirect/"];

/// Where nothing reaches outside.
const PURE_IN: &[&str] = &[
    "userspace/types/src/",
    "userspace/proto/src/",
    "userspace/mask/src/",
    "userspace/policy/src/",
];

/// Ways to reach outside.
const IO_WORDS: &[&str] = &[
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::os::unix::net",
    "std::process",
    "std::env",
    "thread::spawn",
    "thread::Builder",
    "Instant::now",
    "SystemTime::now",
    "tokio",
];

/// Words that have no place in Rust sources, in two halves, as this file is one of them.
const WORDS: &[[&str; 2]] =
    &[["TO", "DO"], ["FIX", "ME"], ["#[ig", "nore"], ["#[al", "low("], ["unimple", "mented!("]];

fn is_pure(path: &str) -> bool {
    let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
    PURE_IN.iter().any(|folder| path.starts_with(folder)) && !is_test
}

/// A line without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Lines before the inline tests.
fn production_lines(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let is_tests =
        |pair: &[&str]| matches!(pair, ["#[cfg(test)]", next] if next.starts_with("mod "));
    lines.windows(2).position(is_tests).unwrap_or(lines.len())
}

/// Whether a line of code, its comment left out, has the keyword.
fn has_unsafe(line: &str) -> bool {
    let code: String = code(line).split('"').step_by(2).collect();
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == concat!("un", "safe"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn wrong(path: &str, text: &str) -> Vec<String> {
        check_file(&File { path: path.into(), text: text.into() })
    }

    #[test]
    fn unsafe_stands_only_where_the_kernel_is() {
        let text = "fn f() { unsafe { g() } }";
        assert_eq!(wrong("userspace/proxy/src/a.rs", text).len(), 1);
        assert!(wrong("userspace/redirect/src/a.rs", text).is_empty());
        assert!(wrong("userspace/proxy/src/a.rs", "#![deny(unsafe_code)] // no unsafe").is_empty());
    }

    #[test]
    fn what_is_pure_reaches_nothing_outside() {
        let text = "use std::fs;\n";
        assert_eq!(wrong("userspace/types/src/a.rs", text).len(), 1);
        assert!(wrong("userspace/journal/src/a.rs", text).is_empty());
        assert!(wrong("userspace/types/src/a.rs", "//! No std::fs here.\n").is_empty());
        let tests = format!("#[cfg(test)]\nmod tests {{\n{text}}}\n");
        assert!(wrong("userspace/proto/src/a.rs", &tests).is_empty());
    }

    #[test]
    fn words_and_paths_are_found() {
        assert_eq!(wrong("a.rs", &format!("// {}: later", WORDS[0].concat())).len(), 1);
        assert!(wrong("a.md", &format!("{}: later", WORDS[0].concat())).is_empty());
        assert_eq!(wrong("a.md", &format!("see {}/x", paths::root().display())).len(), 1);
    }

    #[test]
    fn long_files_are_found_and_inline_tests_not_counted() {
        let long = "x\n".repeat(FILE_LINES_MAX + 1);
        assert_eq!(wrong("a.rs", &long).len(), 1);
        assert!(wrong("a.rs", &format!("x\n#[cfg(test)]\nmod tests {{\n{long}}}")).is_empty());
        assert_eq!(production_lines("a\nb\n#[cfg(test)]\nmod tests {}\n"), 2);
        assert_eq!(production_lines("a\n#[cfg(test)]\nfn b() {}\n"), 3);
    }
}
