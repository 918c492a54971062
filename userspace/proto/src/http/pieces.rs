//! One side of the wire for the record: all of its bytes but secrets in heads, of which a gap says how long they were.
//!
//! In content nobody looks for secrets. What can't be read may hold one: it is a gap to the connection's end.

use super::messages::{Messages, Part};
use super::secrets::{self, First};
use crate::piece::{Gap, Piece};

/// Takes one side's bytes apart for the record. What is not whole yet of a head is told with its rest.
#[derive(Debug)]
pub struct Pieces {
    messages: Messages,
}

impl Pieces {
    /// Of what comes from the agent.
    pub fn sent() -> Self {
        Self { messages: Messages::requests() }
    }

    /// Of what goes to it.
    pub fn received() -> Self {
        Self { messages: Messages::answers() }
    }

    /// Says of the next answer whether it is to a HEAD.
    pub fn answer_to(&mut self, is_head: bool) {
        self.messages.answer_to(is_head);
    }

    /// Takes bytes; calls `each` with whether a message begins, and a piece.
    pub fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(bool, Piece<'_>)) {
        self.messages.push(bytes, &mut |part| piece(part, each));
    }

    /// Says that no more comes: what is left is told.
    pub fn finish(&mut self, each: &mut dyn FnMut(bool, Piece<'_>)) {
        self.messages.finish(&mut |part| piece(part, each));
    }
}

fn piece(part: Part<'_>, each: &mut dyn FnMut(bool, Piece<'_>)) {
    match part {
        Part::Head(head) => section(head, First::Line, each),
        Part::Trailers(fields) => section(fields, First::Field, each),
        Part::Content(bytes) | Part::Framing(bytes) => each(false, Piece::Bytes(bytes)),
        Part::Unreadable(bytes) => each(false, Piece::Gap(bytes.len() as u64, Gap::Unreadable)),
        Part::End => {}
    }
}

fn section(section: &[u8], first: First, each: &mut dyn FnMut(bool, Piece<'_>)) {
    let mut begins = first == First::Line;
    let Some(found) = secrets::find(section, first) else {
        return each(begins, Piece::Gap(section.len() as u64, Gap::Unreadable));
    };
    let mut end = 0;
    for secret in found {
        let before = section.get(end..secret.start).unwrap_or_default();
        each(std::mem::take(&mut begins), Piece::Bytes(before));
        each(false, Piece::Gap(secret.len() as u64, Gap::Secret));
        end = secret.end;
    }
    each(begins, Piece::Bytes(section.get(end..).unwrap_or_default()));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fuzz;
    use super::*;

    /// What is told of bytes, with `[N why]` in the place of gaps.
    fn told(mut pieces: Pieces, bytes: &[u8], cut: usize) -> String {
        let mut all: Vec<(u64, String)> = Vec::new();
        let mut each = |_: bool, piece: Piece<'_>| match piece {
            Piece::Bytes(bytes) => all.push((0, String::from_utf8_lossy(bytes).into_owned())),
            Piece::Gap(count, why) => match all.last_mut() {
                Some((before, word)) if *before > 0 && word == why.as_str() => *before += count,
                _ => all.push((count, why.as_str().to_owned())),
            },
        };
        bytes.chunks(cut).for_each(|bytes| pieces.push(bytes, &mut each));
        pieces.finish(&mut each);
        let all = all.into_iter().map(|(count, text)| match count {
            0 => text,
            count => format!("[{count} {text}]"),
        });
        all.collect()
    }

    #[track_caller]
    fn check(pieces: impl Fn() -> Pieces, bytes: &str, expected: &str) {
        for cut in [bytes.len(), 1, 2, 7] {
            assert_eq!(told(pieces(), bytes.as_bytes(), cut), expected, "cut each {cut}");
        }
    }

    #[test]
    fn secrets_of_heads_are_gaps_and_all_else_is_there() {
        let post = "POST /v1/x?a=1&access_token=hunter2&b=ghp_0123456789 HTTP/1.1\r\nHost: a\r\n\
                    authorization:   Bearer abc \r\nX-Api-Key: k\r\nCookie: a=b; c=d\r\nMCP-Session-Id: 1\r\n\
                    Referer: http://a/?token=t\r\nX: user ghp_0123456789\r\nIdempotency-Key: 7\r\n\
                    Content-Length: 4\r\n\r\nbody";
        let kept = "POST /v1/x?a=1&access_token=[7 secret]&b=[14 secret] HTTP/1.1\r\nHost: a\r\n\
                    authorization:   [10 secret] \r\nX-Api-Key: [1 secret]\r\nCookie: [8 secret]\r\n\
                    MCP-Session-Id: [1 secret]\r\nReferer: [17 secret]\r\nX: [19 secret]\r\nIdempotency-Key: 7\r\n\
                    Content-Length: 4\r\n\r\nbody";
        let get = "GET /ghp_0123456789/a HTTP/1.1\r\nProxy-Authorization: x\r\n\r\n";
        let kept_get = "GET /[14 secret]/a HTTP/1.1\r\nProxy-Authorization: [1 secret]\r\n\r\n";
        check(Pieces::sent, &[post, get].concat(), &[kept, kept_get].concat());
    }

    #[test]
    fn chunks_are_kept_as_they_are_framed() {
        let chunked = "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nGET /\r\n0A\r\n0123456789\r\n0\r\n";
        let next = "GET / HTTP/1.1\r\nCookie: c\r\n\r\n";
        let kept = "GET / HTTP/1.1\r\nCookie: [1 secret]\r\n\r\n";
        check(Pieces::sent, &[chunked, "\r\n", next].concat(), &[chunked, "\r\n", kept].concat());
        let (trailers, kept_of) =
            ("A: 1\r\nX-Token: abc\r\n\r\n", "A: 1\r\nX-Token: [3 secret]\r\n\r\n");
        check(
            Pieces::sent,
            &[chunked, trailers, next].concat(),
            &[chunked, kept_of, kept].concat(),
        );
    }

    #[test]
    fn answers_end_where_they_say() {
        let cookie = "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\n";
        let kept = "HTTP/1.1 200 OK\r\nSet-Cookie: [3 secret]\r\n";
        let all = |cookie: &str| {
            [
                "HTTP/1.1 100 Continue\r\n\r\n",
                cookie,
                "Content-Length: 2\r\n\r\nab",
                "HTTP/1.1 204 No Content\r\n\r\n",
                cookie,
                "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
                cookie,
                "\r\nSet-Cookie: this is text to the end\r\n\r\n",
            ]
            .concat()
        };
        check(Pieces::received, &all(cookie), &all(kept));
        let to_head = || {
            let mut pieces = Pieces::received();
            pieces.answer_to(true);
            pieces
        };
        let head = |cookie: &str| [cookie, "Content-Length: 9\r\n\r\n", cookie, "\r\n"].concat();
        check(to_head, &head(cookie), &head(kept));
    }

    #[test]
    fn what_has_two_readings_is_not_kept_from_there_on() {
        let good = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for bad in [
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            "GET / HTTP/1.1\r\nAuthorization:\r\n Bearer x\r\n\r\n",
            "GET / HTTP/1.1\nAuthorization: Bearer x\n\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET / HTTP/1.1\r\nAuthorization: Bear",
            "\r\n",
        ] {
            check(
                Pieces::sent,
                &[good, bad].concat(),
                &format!("{good}[{} unreadable]", bad.len()),
            );
        }
        let chunk = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx";
        check(
            Pieces::sent,
            &[chunk, "yz", good].concat(),
            &format!("{chunk}[{} unreadable]", good.len() + 2),
        );
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(200_000));
        check(Pieces::sent, &long, &format!("[{} unreadable]", long.len()));
    }

    proptest! {
        #[test]
        fn every_byte_is_told_wherever_it_is_cut(
            parts in proptest::collection::vec(prop_oneof![
                Just("GET / HTTP/1.1\r\n"), Just("HTTP/1.1 200 OK\r\n"), Just("Cookie: a\r\n"), Just("\r\n"),
                Just("Content-Length: 3\r\n"), Just("Transfer-Encoding: chunked\r\n"), Just("3\r\nabc\r\n"), Just("0\r\n"),
                Just("\n"), Just("abc"), Just("X-Token: "), Just("\u{1}"),
            ], 0..20),
        ) {
            fuzz::one_input(parts.concat().as_bytes());
        }
    }
}
