//! Questions off the wire and answers onto it (RFC 1035 §4.1, EDNS by RFC 6891, errors by RFC 8914).
//!
//! Nothing of an agent's message goes further than its question: no options, no flags, no bytes
//! behind it.

use std::sync::Arc;

use hickory_resolver::proto::op::{
    Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode,
};
use hickory_resolver::proto::rr::rdata::opt::EdnsOption;
use hickory_resolver::proto::rr::{DNSClass, Record, RecordType};

/// The longest message that is looked at: a question is a name of 255 bytes and some; EDNS padding
/// (RFC 8467) makes it 128 more, cookies 40.
pub(crate) const QUESTION_BYTES_MAX: usize = 4_096;

/// What a client takes that does not say (RFC 1035 §4.2.1).
const PLAIN_BYTES_MAX: usize = 512;

/// The longest datagram we send: fits in one IPv6 packet of 1,280 bytes (DNS Flag Day 2020).
const DATAGRAM_BYTES_MAX: usize = 1_232;

/// Bytes of an explanation (RFC 8914 §2: keep it short); datagrams have to hold it.
const EXPLANATION_BYTES_MAX: usize = 200;

/// EDNS option code of an Extended DNS Error.
const EXTENDED_ERROR: u16 = 15;

/// Bytes of a message's header.
const HEADER_BYTES: usize = 12;

/// One question.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    metadata: Metadata,
    query: Query,
    /// What the client takes by EDNS, if it speaks it.
    payload: Option<usize>,
    /// Lower case, no final dot; `.` for the root. Bytes that are no letters are escaped.
    pub(crate) name: Arc<str>,
}

/// Why a message is not a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// Nothing can be said to it.
    Silent,
    /// This is the answer.
    Answer(Vec<u8>),
}

/// What is answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) code: ResponseCode,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) explanation: Option<(ExtendedError, String)>,
}

/// The Extended DNS Errors that are used (RFC 8914 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExtendedError {
    Other = 0,
    NotReady = 14,
    Blocked = 15,
    Prohibited = 18,
    NoReachableAuthority = 22,
    NetworkError = 23,
}

impl Answer {
    /// An error with its explanation.
    pub(crate) fn error(code: ResponseCode, why: ExtendedError, text: impl Into<String>) -> Self {
        Self { code, explanation: Some((why, text.into())), ..Self::default() }
    }
}

impl Question {
    /// Reads a message. It never panics, whatever the bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Unfit> {
        let header = Header::of(bytes).ok_or(Unfit::Silent)?;
        if header.is_response || bytes.len() > QUESTION_BYTES_MAX {
            return Err(Unfit::Silent);
        }
        if header.op_code != OpCode::Query {
            return Err(header.answer(ResponseCode::NotImp));
        }
        // One question and nothing but EDNS, a cookie or a signature: what is counted is allocated.
        if header.counts != [1, 0, 0] || header.additionals > 2 {
            return Err(header.answer(ResponseCode::FormErr));
        }
        let message = Message::from_vec(bytes);
        let message = message.map_err(|_| header.answer(ResponseCode::FormErr))?;
        let [query] = message.queries.as_slice() else {
            return Err(header.answer(ResponseCode::FormErr));
        };
        let payload = message.edns.as_ref().map(|edns| usize::from(edns.max_payload()));
        let mut ascii = query.name().to_lowercase().to_ascii();
        if ascii.len() > 1 && ascii.ends_with('.') {
            ascii.pop();
        }
        let name = if ascii.is_empty() { ".".into() } else { ascii.into() };
        let own = Self { metadata: message.metadata, query: query.clone(), payload, name };
        if message.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
            return Err(own.unfit(ResponseCode::BADVERS));
        }
        if own.query.query_class() != DNSClass::IN || is_no_data(own.record_type()) {
            return Err(own.unfit(ResponseCode::NotImp));
        }
        Ok(own)
    }

    /// The question itself.
    pub(crate) fn query(&self) -> &Query {
        &self.query
    }

    /// What is asked for.
    pub(crate) fn record_type(&self) -> RecordType {
        self.query.query_type()
    }

    /// Its mnemonic, or `TYPE` and its number (RFC 3597 §5).
    pub(crate) fn mnemonic(&self) -> Arc<str> {
        match self.record_type() {
            RecordType::Unknown(number) => format!("TYPE{number}").into(),
            known => <&'static str>::from(known).into(),
        }
    }

    /// The answer as a datagram: without its records and marked truncated where it is too long.
    pub(crate) fn datagram(&self, answer: &Answer) -> Vec<u8> {
        let limit = self
            .payload
            .map_or(PLAIN_BYTES_MAX, |payload| payload.clamp(PLAIN_BYTES_MAX, DATAGRAM_BYTES_MAX));
        self.encode(answer, limit)
    }

    /// The answer as a message on a stream, without its length.
    pub(crate) fn message(&self, answer: &Answer) -> Vec<u8> {
        self.encode(answer, usize::from(u16::MAX))
    }

    fn encode(&self, answer: &Answer, limit: usize) -> Vec<u8> {
        let mut message = self.frame(answer.code);
        message.answers.clone_from(&answer.answers);
        message.authorities.clone_from(&answer.authorities);
        if let Some((error, text)) = &answer.explanation
            && let Some(edns) = &mut message.edns
        {
            let mut data = (*error as u16).to_be_bytes().to_vec();
            data.extend_from_slice(cut(text, EXPLANATION_BYTES_MAX).as_bytes());
            edns.options_mut().insert(EdnsOption::Unknown(EXTENDED_ERROR, data));
        }
        match message.to_vec() {
            Ok(bytes) if bytes.len() <= limit => bytes,
            Ok(_) => {
                message.answers.clear();
                message.authorities.clear();
                message.metadata.truncation = true;
                message.to_vec().unwrap_or_default()
            }
            Err(_) => self.frame(ResponseCode::ServFail).to_vec().unwrap_or_default(),
        }
    }

    /// An answer without records.
    fn frame(&self, code: ResponseCode) -> Message {
        let mut message = Message::new(self.metadata.id, MessageType::Response, OpCode::Query);
        message.metadata = Metadata::response_from_request(&self.metadata);
        message.metadata.recursion_available = true;
        message.metadata.response_code = code;
        message.add_query(self.query.clone());
        // EDNS is answered to who speaks it only (RFC 6891 §7).
        if self.payload.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(u16::try_from(DATAGRAM_BYTES_MAX).expect("a small number"));
            message.set_edns(edns);
        }
        message
    }

    fn unfit(&self, code: ResponseCode) -> Unfit {
        Unfit::Answer(self.frame(code).to_vec().unwrap_or_default())
    }
}

/// A response code's mnemonic (RFC 6895 §2.3).
pub(crate) fn code_word(code: ResponseCode) -> String {
    match u16::from(code) {
        0 => "NOERROR".to_owned(),
        1 => "FORMERR".to_owned(),
        2 => "SERVFAIL".to_owned(),
        3 => "NXDOMAIN".to_owned(),
        4 => "NOTIMP".to_owned(),
        5 => "REFUSED".to_owned(),
        other => format!("RCODE{other}"),
    }
}

/// The fixed part of a message, read without allocating.
struct Header {
    id: u16,
    is_response: bool,
    op_code: OpCode,
    /// Questions, answers, authorities.
    counts: [u16; 3],
    additionals: u16,
}

impl Header {
    fn of(bytes: &[u8]) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER_BYTES>()?;
        let ([id, flags, counts @ .., additionals], []) = header.as_chunks::<2>() else {
            return None;
        };
        let [flags, _] = *flags;
        let [questions, answers, authorities] = *counts else { return None };
        Some(Self {
            id: u16::from_be_bytes(*id),
            is_response: flags & 0x80 != 0,
            op_code: OpCode::from_u8((flags >> 3) & 0x0f),
            counts: [questions, answers, authorities].map(u16::from_be_bytes),
            additionals: u16::from_be_bytes(*additionals),
        })
    }

    fn answer(&self, code: ResponseCode) -> Unfit {
        let message = Message::error_msg(self.id, self.op_code, code);
        message.to_vec().map_or(Unfit::Silent, Unfit::Answer)
    }
}

/// Types that are no data of a name: zone transfers, and records of the transport itself.
fn is_no_data(record_type: RecordType) -> bool {
    matches!(
        record_type,
        RecordType::AXFR
            | RecordType::IXFR
            | RecordType::OPT
            | RecordType::TSIG
            | RecordType::SIG
            | RecordType::ZERO
    )
}

/// The head of a text, at most `bytes` long.
fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
