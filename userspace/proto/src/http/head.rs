//! Whether a request's head, as it came, has one reading (RFC 9112 §2.2, §5, §6; smuggling).
//!
//! The driver's library parses it, and repairs what it may repair: of a message with both lengths it drops one without
//! a word. So the head is looked at once more, as bytes. This is no parser: whatever is not plain is refused.

use types::limits::HTTP_HEAD_BYTES_MAX;

use super::Refused;

/// Looks at the bytes that a request's head began with; what stands behind the head is of no concern.
///
/// # Errors
/// What is ambiguous about it.
pub fn examine(bytes: &[u8]) -> Result<(), Refused> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or(Refused::Head)?;
    let head = bytes.get(..end).ok_or(Refused::Head)?;
    if head.len() > HTTP_HEAD_BYTES_MAX {
        return Err(Refused::Head);
    }
    let mut lines =
        head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let feeds = memchr::memchr_iter(b'\n', head).count();
    let returns = memchr::memchr_iter(b'\r', head).count();
    let pairs = head.windows(2).filter(|two| two == b"\r\n").count();
    if feeds != pairs || returns != pairs {
        return Err(Refused::Head);
    }
    request_line(lines.next().ok_or(Refused::Head)?)?;
    let mut seen = Seen::default();
    for line in lines {
        seen.field(line)?;
    }
    seen.judged()
}

/// `METHOD SP target SP HTTP/1.1`, single blanks, and nothing of a target that a reader may cut off.
fn request_line(line: &[u8]) -> Result<(), Refused> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refused::Head);
    };
    if version != b"HTTP/1.1" {
        return Err(Refused::Version);
    }
    let is_target =
        target.iter().all(|byte| byte.is_ascii_graphic() && !b"#\\\"<>^`{|}".contains(byte));
    if method.is_empty() || target.is_empty() || !method.iter().all(u8::is_ascii_uppercase) {
        return Err(if method.iter().all(|byte| is_token(*byte)) {
            Refused::Method
        } else {
            Refused::Head
        });
    }
    if is_target { Ok(()) } else { Err(Refused::Target) }
}

/// Fields that say where a message ends and whose it is.
#[derive(Default)]
struct Seen {
    lengths: usize,
    encodings: usize,
    is_chunked: bool,
    hosts: usize,
}

impl Seen {
    fn field(&mut self, line: &[u8]) -> Result<(), Refused> {
        let colon = line.iter().position(|byte| *byte == b':').ok_or(Refused::Head)?;
        let (name, value) =
            (line.get(..colon).unwrap_or_default(), line.get(colon + 1..).unwrap_or_default());
        // A blank before the colon, or a folded line, makes the name no token.
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(Refused::Head);
        }
        let value = value.trim_ascii();
        if value.iter().any(|byte| *byte < b' ' && *byte != b'\t' || *byte == 0x7f) {
            return Err(Refused::Head);
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            self.lengths += 1;
            if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
                return Err(Refused::Framing);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.encodings += 1;
            self.is_chunked = value.eq_ignore_ascii_case(b"chunked");
        } else if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
        }
        Ok(())
    }

    fn judged(&self) -> Result<(), Refused> {
        let Self { lengths, encodings, is_chunked, hosts } = self;
        match (lengths, encodings, is_chunked) {
            (0 | 1, 0, _) | (0, 1, true) => {}
            _ => return Err(Refused::Framing),
        }
        if *hosts == 1 { Ok(()) } else { Err(Refused::Host) }
    }
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
