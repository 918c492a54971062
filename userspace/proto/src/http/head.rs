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
    if end > HTTP_HEAD_BYTES_MAX {
        return Err(Refused::Head);
    }
    let mut lines = lines(bytes.get(..end + 4).ok_or(Refused::Head)?)?;
    request_line(lines.next().ok_or(Refused::Head)?)?;
    let mut seen = Seen::default();
    for line in lines {
        seen.field(line)?;
    }
    seen.framed()?;
    if seen.hosts == 1 { Ok(()) } else { Err(Refused::Host) }
}

/// The method and the target of a request's head.
pub fn request(head: &[u8]) -> Option<(&str, &str)> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let (method, rest) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    Some((method, rest.split_once(' ')?.0))
}

/// The value of the first field of a name; none where it is no text.
pub fn value<'h>(head: &'h [u8], name: &str) -> Option<&'h str> {
    let mut fields = lines(head).ok()?.skip(1).filter_map(|line| field(line).ok());
    let (_, value) = fields.find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))?;
    std::str::from_utf8(value).ok()
}

/// The status that an answer's head says.
pub fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let (digits, reason) = rest.split_first_chunk::<3>()?;
    let is_good = matches!(reason.first(), None | Some(b' '));
    let text = std::str::from_utf8(digits).ok()?;
    let status = text.parse().ok().filter(|_| is_good && digits.iter().all(u8::is_ascii_digit));
    status.filter(|status| *status >= 100)
}

/// The lines of a head, or of trailers, that ends with an empty one, without that and without their ends; each ends with
/// CR and LF, of which there are no others.
pub(super) fn lines(head: &[u8]) -> Result<impl Iterator<Item = &[u8]>, Refused> {
    let head = head.strip_suffix(b"\r\n\r\n").ok_or(Refused::Head)?;
    let feeds = memchr::memchr_iter(b'\n', head).count();
    let returns = memchr::memchr_iter(b'\r', head).count();
    let pairs = memchr::memmem::find_iter(head, b"\r\n").count();
    if feeds != pairs || returns != pairs {
        return Err(Refused::Head);
    }
    Ok(head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)))
}

/// A field's name, and its value without blanks around it.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Refused> {
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
    Ok((name, value))
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

/// How long a message's content is, as its head has it (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Unsaid,
    Bytes(u64),
    Chunked,
}

/// Fields that say where a message ends and whose it is.
#[derive(Default)]
pub(super) struct Seen {
    lengths: usize,
    length: u64,
    encodings: usize,
    is_chunked: bool,
    hosts: usize,
}

impl Seen {
    /// Looks at a line.
    pub(super) fn field(&mut self, line: &[u8]) -> Result<(), Refused> {
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            self.lengths += 1;
            let digits = std::str::from_utf8(value).ok();
            let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            self.length = digits.and_then(|digits| digits.parse().ok()).ok_or(Refused::Framing)?;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.encodings += 1;
            self.is_chunked = value.eq_ignore_ascii_case(b"chunked");
        } else if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
        }
        Ok(())
    }

    /// The length that all fields together say; the error where it can be read in two ways.
    pub(super) fn framed(&self) -> Result<Length, Refused> {
        let Self { lengths, length, encodings, is_chunked, hosts: _ } = self;
        match (lengths, encodings, is_chunked) {
            (0, 0, _) => Ok(Length::Unsaid),
            (1, 0, _) => Ok(Length::Bytes(*length)),
            (0, 1, true) => Ok(Length::Chunked),
            _ => Err(Refused::Framing),
        }
    }
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
