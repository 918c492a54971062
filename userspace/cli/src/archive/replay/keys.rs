//! Keys of a terminal, one by one as they are pressed.

use std::io::{self, Read};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::player::Key;

/// Keys that are pressed; the terminal is as it was once this is gone.
#[derive(Debug)]
pub(super) struct Keys {
    before: Termios,
    pressed: Receiver<u8>,
}

/// How long the rest of an arrow key may take: it comes at once.
const REST: Duration = Duration::from_millis(50);
/// Keys that are pressed ahead; each is a byte.
const AHEAD_MAX: usize = 64;
const ESCAPE: u8 = 0x1b;
/// Control-C: it comes as a key, so that the terminal is put right.
const INTERRUPT: u8 = 3;

impl Keys {
    /// Has the terminal give keys as they are pressed.
    pub(super) fn listen() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        let (press, pressed) = mpsc::sync_channel(AHEAD_MAX);
        let keys = Self { before, pressed };
        // It ends with the program: nothing else reads this terminal.
        std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
            for byte in io::stdin().lock().bytes() {
                let Ok(byte) = byte else { break };
                if press.send(byte).is_err() {
                    break;
                }
            }
        })?;
        Ok(keys)
    }

    /// The next key, within a time where one is given; `None` once that is over.
    pub(super) fn wait(&self, time: Option<Duration>) -> Option<Key> {
        // Without an end: an hour after which it is paused still.
        let until = time.unwrap_or(Duration::from_hours(1));
        loop {
            match self.pressed.recv_timeout(until) {
                Ok(byte) => {
                    if let Some(key) = self.key(byte) {
                        return Some(key);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Some(Key::Quit),
                Err(RecvTimeoutError::Timeout) if time.is_none() => {}
                Err(RecvTimeoutError::Timeout) => return None,
            }
        }
    }

    fn key(&self, byte: u8) -> Option<Key> {
        match byte {
            b' ' => Some(Key::Pause),
            b'q' | b'Q' | INTERRUPT => Some(Key::Quit),
            // Arrows (ECMA-48 CUU, CUD, CUF, CUB), as terminals send them in either mode.
            ESCAPE => match (self.rest(), self.rest()) {
                (Some(b'[' | b'O'), Some(b'A')) => Some(Key::Faster),
                (Some(b'[' | b'O'), Some(b'B')) => Some(Key::Slower),
                (Some(b'[' | b'O'), Some(b'C')) => Some(Key::Forward),
                (Some(b'[' | b'O'), Some(b'D')) => Some(Key::Back),
                _ => None,
            },
            _ => None,
        }
    }

    fn rest(&self) -> Option<u8> {
        self.pressed.recv_timeout(REST).ok()
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        tcsetattr(io::stdin(), OptionalActions::Now, &self.before).ok();
    }
}
