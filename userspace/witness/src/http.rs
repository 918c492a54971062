//! As much of HTTP/1.1 as a witness needs: one request, one answer, bodies of a known length.

use std::io::{self, Read};

/// Bytes of a head at most.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Bytes of a body at most: 63 hashes in base64, a checkpoint and 64 signatures come to some 16 KiB.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;

/// Header fields of a message at most.
const FIELDS_MAX: usize = 32;

/// A message without its body.
#[derive(Debug)]
pub(crate) struct Head {
    /// Method and target, or the status twice.
    pub(crate) first: (String, String),
    length: usize,
}

/// Reads a request's or, where `is_response`, an answer's head and body.
pub(crate) fn read(stream: &mut impl Read, is_response: bool) -> io::Result<(Head, String)> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let mut bytes = Vec::new();
    let (head, start) = loop {
        if let Some(found) = parse(&bytes, is_response)? {
            break found;
        }
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(malformed());
        }
        let mut part = [0; 2048];
        let count = stream.read(&mut part)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(part.get(..count).unwrap_or_default());
    };
    let mut body = bytes.split_off(start);
    if head.length > BODY_BYTES_MAX || body.len() > head.length {
        return Err(malformed());
    }
    let rest = u64::try_from(head.length - body.len()).unwrap_or(0);
    stream.take(rest).read_to_end(&mut body)?;
    if body.len() < head.length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((head, String::from_utf8(body).map_err(|_| malformed())?))
}

fn parse(bytes: &[u8], is_response: bool) -> io::Result<Option<(Head, usize)>> {
    let malformed = |_| io::Error::from(io::ErrorKind::InvalidData);
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let (first, fields, end) = if is_response {
        let mut response = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(end) = response.parse(bytes).map_err(malformed)? else {
            return Ok(None);
        };
        let status = response.code.unwrap_or(0).to_string();
        ((status.clone(), status), response.headers, end)
    } else {
        let mut request = httparse::Request::new(&mut fields);
        let httparse::Status::Complete(end) = request.parse(bytes).map_err(malformed)? else {
            return Ok(None);
        };
        let word = |word: Option<&str>| word.unwrap_or_default().to_owned();
        ((word(request.method), word(request.path)), request.headers, end)
    };
    let mut length = None;
    for field in fields.iter() {
        if field.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if field.name.eq_ignore_ascii_case("content-length") {
            let given = str::from_utf8(field.value).ok().and_then(|text| text.parse().ok());
            let (Some(given), None) = (given, length) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            length = Some(given);
        }
    }
    Ok(Some((Head { first, length: length.unwrap_or(0) }, end)))
}
