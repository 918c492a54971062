//! Messages of the frontend/backend protocol, whole, from and to blocking sockets.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};

/// A message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) tag: u8,
    pub(super) body: Vec<u8>,
}

impl Message {
    /// A simple Query of this text.
    pub(super) fn query(text: &[u8]) -> Self {
        Self { tag: b'Q', body: [text, b"\0"].concat() }
    }

    /// Reads the next one.
    ///
    /// # Errors
    /// If the stream ends.
    pub(super) fn read(from: &mut TcpStream) -> Result<Self> {
        let mut head = [0; 5];
        from.read_exact(&mut head).context("the stream ended")?;
        let [tag, a, b, c, d] = head;
        Ok(Self { tag, body: rest(from, [a, b, c, d])? })
    }

    /// Writes it.
    ///
    /// # Errors
    /// If the stream is closed.
    pub(super) fn write(&self, to: &mut TcpStream) -> Result<()> {
        let length = u32::try_from(self.body.len() + 4).context("a message is that long")?;
        let bytes = [&[self.tag], length.to_be_bytes().as_slice(), &self.body].concat();
        to.write_all(&bytes).context("the stream is closed")
    }

    /// The fields of an ErrorResponse or NoticeResponse, by their letters.
    pub(super) fn field(&self, letter: u8) -> Option<String> {
        let mut fields = self.body.split(|byte| *byte == 0);
        let field = fields.find(|field| field.first() == Some(&letter))?;
        Some(String::from_utf8_lossy(field.get(1..)?).into_owned())
    }
}

/// Reads a startup packet, as it came.
///
/// # Errors
/// If the stream ends.
pub(super) fn startup(from: &mut TcpStream) -> Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).context("the stream ended")?;
    Ok([&length, rest(from, length)?.as_slice()].concat())
}

fn rest(from: &mut TcpStream, length: [u8; 4]) -> Result<Vec<u8>> {
    let length = u32::from_be_bytes(length) as usize;
    ensure!((4..1 << 30).contains(&length), "no length of a message: {length}");
    let mut body = vec![0; length - 4];
    from.read_exact(&mut body).context("the stream ended")?;
    Ok(body)
}
