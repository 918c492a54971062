//! Secrets of the daemon's environment: taken out of it before anything else happens.
//!
//! What a process is started with stands in its memory for as long as it runs, and is read in
//! `/proc/PID/environ`; to be rid of it the daemon becomes another image of the same program, started
//! without, and has the secrets from a pipe in the place of its standard input.

use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use types::secret::Secret;

/// Says that the secrets are in the pipe. Its value names nothing.
const MARK: &str = "VESTIBULE_SECRETS_ON_STDIN";

/// What a pipe takes before it is read (pipe(7): 16 pages of 4 KiB).
const BYTES_MAX: usize = 64 * 1024;

/// Secrets by the names of their variables.
pub(crate) type Environment = HashMap<String, Arc<Secret<Vec<u8>>>>;

/// The values of these variables, which are in the environment no more. Where one of them is, the
/// process starts anew and this does not return; to be called before anything is opened.
pub(crate) fn take(names: &[String]) -> Result<Environment> {
    if names.is_empty() {
        return Ok(Environment::new());
    }
    if env::var_os(MARK).is_some() {
        return read(io::stdin().lock());
    }
    let mut said = Secret::new(Vec::with_capacity(BYTES_MAX));
    for name in names {
        let Some(value) = env::var_os(name) else { continue };
        let value = Secret::new(value.into_vec());
        let length = said.expose().len() + name.len() + value.expose().len() + 2;
        ensure!(length <= BYTES_MAX, "secrets in the environment: at most 64 KiB in all");
        said.expose_mut(|said| {
            // Neither has a NUL in it (environ(7)).
            for part in [name.as_bytes(), value.expose()] {
                said.extend_from_slice(part);
                said.push(0);
            }
        });
    }
    if said.expose().is_empty() {
        return Ok(Environment::new());
    }
    let (reader, mut writer) = io::pipe().context("a pipe")?;
    writer.write_all(said.expose()).context("a pipe")?;
    drop((writer, said));
    let mut again = Command::new("/proc/self/exe");
    let mut arguments = env::args_os();
    again.arg0(arguments.next().unwrap_or_else(|| OsString::from("vestibuled")));
    again.args(arguments).env(MARK, "1").stdin(Stdio::from(reader));
    for name in names {
        again.env_remove(name);
    }
    bail!("the daemon can't be started without its secrets: {}", again.exec())
}

fn read(pipe: impl Read) -> Result<Environment> {
    let mut said = Secret::new(Vec::with_capacity(BYTES_MAX + 1));
    let limit = u64::try_from(BYTES_MAX + 1).unwrap_or(u64::MAX);
    let mut pipe = pipe.take(limit);
    // Never grown, so that no copy of it is left behind.
    said.expose_mut(|said| pipe.read_to_end(said)).context("the pipe with the secrets")?;
    let bytes = said.expose().strip_suffix(b"\0").context("the pipe with the secrets is cut")?;
    let mut parts = bytes.split(|byte| *byte == 0);
    let mut taken = Environment::new();
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        let name = String::from_utf8(name.to_vec()).context("a variable's name")?;
        ensure!(!value.is_empty(), "the variable {name} is empty");
        taken.insert(name, Arc::new(Secret::new(value.to_vec())));
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_out_of_the_pipe() {
        let taken = read(&b"A\0one\0B\0two=2\0"[..]).unwrap();
        assert_eq!(taken["A"].expose(), b"one");
        assert_eq!(taken["B"].expose(), b"two=2");
        assert!(read(&b"A\0one"[..]).is_err());
        assert!(read(&b"A\0\0"[..]).is_err());
        assert!(read(&b""[..]).is_err());
    }
}
