//! Ports of one's own, also beside other instances that are starting.

use std::fs::{self, File};
use std::net::TcpListener;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

/// Below Linux's ephemeral range (32,768), so that no outgoing connection takes one meanwhile.
const PORTS: std::ops::Range<u16> = 21_000..31_000;

/// A free port of 127.0.0.1, nobody else's as long as this lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Takes a free port.
    ///
    /// # Errors
    /// If all are taken.
    pub fn take() -> Result<Self> {
        let directory = std::env::temp_dir().join("vestibule-test-ports");
        fs::create_dir_all(&directory).context("the folder of port locks can't be made")?;
        let count = PORTS.end - PORTS.start;
        // Processes that start together begin at different places.
        let first = u16::try_from(std::process::id() % u32::from(count)).unwrap_or_default();
        for step in 0..count {
            let number = PORTS.start + (first.wrapping_mul(37).wrapping_add(step)) % count;
            let lock = File::create(directory.join(number.to_string()))
                .context("a port's lock can't be made")?;
            let is_ours = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
            if is_ours && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        bail!("no port of {PORTS:?} is free")
    }

    /// Answers its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_a_port_twice_while_it_is_held() {
        let first = Port::take().unwrap();
        let second = Port::take().unwrap();
        assert_ne!(first.number(), second.number());
        assert!(PORTS.contains(&first.number()));
    }
}
