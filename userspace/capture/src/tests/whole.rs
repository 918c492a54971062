//! Whole captures: packets in any order that can be, and what is told of them.

use std::sync::{Arc, LazyLock};

use proptest::collection::vec;
use proptest::prelude::*;
use proto::sql::Analyzer;
use types::addr::Side;
use types::clock::Timestamp;
use types::event::Status;

use crate::connection::{Connection, Gap, Output, Why};
use crate::conversation::{Said, Unread};
use crate::exchange::Request;
use crate::reading::{self, Closed, Counts, Ends, Sink, Told};
use crate::segment::{self, Segment};
use crate::source::{Frame, Source, SourceError};
use crate::write::{Talk, Writer};

static ANALYZER: LazyLock<Arc<Analyzer>> = LazyLock::new(|| Arc::new(Analyzer::new()));

const ENDS: (&str, &str) = ("10.0.0.1:40000", "10.0.0.2:5432");

/// What is said in a connection, by turns.
type Turns<'t> = [(Side, &'t [u8])];

/// The packets of a connection: handshake, turns, end.
pub(super) fn packets((client, server): (&str, &str), turns: &Turns<'_>) -> Vec<Vec<u8>> {
    let mut writer = Writer::new(Vec::new(), "tests", "made").unwrap();
    let (client, server) = (client.parse().unwrap(), server.parse().unwrap());
    let mut talk = Talk::open(&mut writer, client, server, 1_000_000, &[]).unwrap();
    for (at, (side, bytes)) in (2..).zip(turns) {
        talk.say(&mut writer, *side, (at * 1_000_000, bytes), &[]).unwrap();
    }
    talk.close(&mut writer, 99_000_000, &[]).unwrap();
    let file = writer.finish().unwrap();
    let mut source = Source::new(std::path::Path::new("made"), std::io::Cursor::new(file)).unwrap();
    let mut found = Vec::new();
    while source.next(&mut |frame| found.push(frame.bytes.to_vec())).unwrap() {}
    found
}

/// A capture of one connection.
pub(super) fn file(turns: &Turns<'_>, comments: &[&str]) -> Vec<u8> {
    captured(&packets(ENDS, turns), comments)
}

fn captured(packets: &[Vec<u8>], comments: &[&str]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), "tests", "made").unwrap();
    for (at, packet) in (1..).zip(packets) {
        writer.packet(at * 1_000, packet, comments).unwrap();
    }
    writer.finish().unwrap()
}

/// What is told of a capture, in words.
#[derive(Default)]
struct Heard(Vec<String>);

impl Sink for Heard {
    type Error = SourceError;

    fn take(&mut self, _: Ends, _: Timestamp, told: Told<'_>) -> Result<(), SourceError> {
        self.0.push(match told {
            Told::Said(Said::Opens(opening)) => {
                format!("opens {}@{}", opening.user.unwrap_or("-"), opening.database.unwrap_or("-"))
            }
            Told::Said(Said::Command(command)) => {
                format!("{} {}", command.kind.as_str(), command.statement.text)
            }
            Told::Said(Said::Request(request)) => {
                let Request { command, asked: _, host, content_type } = request;
                format!(
                    "{} {} at {host} {content_type}",
                    command.kind.as_str(),
                    command.statement.text
                )
            }
            Told::Said(Said::Outcome(outcome)) => {
                let rows = outcome.rows.map(|rows| format!(" {rows}")).unwrap_or_default();
                format!("{}{rows}", outcome.status.as_str())
            }
            Told::Said(Said::Violation(violation)) => format!("violation {}", violation.what),
            Told::Gap(Gap { side, bytes, why, .. }) => {
                format!("gap {side:?} {bytes} {}", why.as_str())
            }
            Told::Conflict { side, bytes } => format!("conflict {side:?} {bytes}"),
            Told::Closed(Closed { reason, unread, unread_bytes, .. }) => match unread {
                Some(why) => format!("{reason}, unread {} {unread_bytes}", why.as_str()),
                None => reason.to_owned(),
            },
        });
        Ok(())
    }

    fn progress(&mut self, _: u64) {}
}

fn heard(file: Vec<u8>) -> (Vec<String>, Counts) {
    let source = Source::new(std::path::Path::new("made"), std::io::Cursor::new(file)).unwrap();
    let mut heard = Heard::default();
    let counts = reading::read_from(source, &ANALYZER, &mut heard).unwrap();
    (heard.0, counts)
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag][..], &length, body].concat()
}

fn startup() -> Vec<u8> {
    let body = [&[0, 3, 0, 0][..], b"user\0bob\0database\0bank\0\0"].concat();
    [&u32::try_from(body.len() + 4).unwrap().to_be_bytes()[..], &body].concat()
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), &[0]].concat())
}

/// A session with two statements, of which the second's answer is long.
fn session() -> Vec<(Side, Vec<u8>)> {
    let hello = [
        message(b'R', &[0; 4]),
        message(b'S', b"client_encoding\0UTF8\0"),
        message(b'S', b"standard_conforming_strings\0on\0"),
        message(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]),
        ready(),
    ];
    let column = [&b"t\0"[..], &[0; 6], &25_u32.to_be_bytes(), &[0xff; 6], &[0, 0]].concat();
    let described = message(b'T', &[&[0, 1][..], &column].concat());
    let row = message(b'D', &[&[0, 1][..], &1_000_u32.to_be_bytes(), &[b'x'; 1_000]].concat());
    let long = [described, row.repeat(60), message(b'C', b"SELECT 60\0"), ready()].concat();
    let short = [message(b'C', b"INSERT 0 3\0"), ready()].concat();
    vec![
        (Side::Downstream, startup()),
        (Side::Upstream, hello.concat()),
        (Side::Downstream, query("INSERT INTO t SELECT 1")),
        (Side::Upstream, short),
        (Side::Downstream, query("SELECT t FROM t")),
        (Side::Upstream, long),
        (Side::Downstream, message(b'X', b"")),
    ]
}

const TOLD: [&str; 8] = [
    "opens bob@bank",
    "db.connect ",
    "ok",
    "db.query INSERT INTO t SELECT 1",
    "ok 3",
    "db.query SELECT t FROM t",
    "ok 60",
    "closed",
];

fn turns(session: &[(Side, Vec<u8>)]) -> Vec<(Side, &[u8])> {
    session.iter().map(|(side, bytes)| (*side, bytes.as_slice())).collect()
}

#[test]
fn a_session_is_told_statement_by_statement() {
    let session = session();
    let (told, counts) = heard(file(&turns(&session), &[]));
    assert_eq!(told, TOLD);
    assert_eq!((counts.connections, counts.is_cut), (1, false));
    assert_eq!((counts.first_us, counts.last_us.is_some()), (Some(1_000), true));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn packets_that_overtook_one_another_tell_the_same(
        moves in vec((0..20_usize, 1..6_usize), 0..30),
        twice in vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let session = session();
        let mut packets = packets(ENDS, &turns(&session));
        for at in twice {
            let at = at.index(packets.len() - 3) + 3;
            packets.insert(at, packets[at].clone());
        }
        // The handshake goes ahead: it says whose connection it is, and where each side begins.
        for (at, by) in moves {
            let last = packets.len() - 1;
            packets.swap((at + 3).min(last), (at + 3 + by).min(last));
        }
        let (told, _) = heard(captured(&packets, &[]));
        prop_assert_eq!(told, TOLD);
    }
}

#[test]
fn what_is_missing_is_told_and_nothing_is_made_of_the_rest() {
    let session = session();
    for at in 3..12 {
        let mut packets = packets(ENDS, &turns(&session));
        let lost = packets.remove(at);
        let (told, _) = heard(captured(&packets, &[]));
        let gap = format!("gap {:?} {} not_captured", side(&lost), lost.len() - 40);
        assert!(told.contains(&gap), "{told:?} lacks {gap}");
        assert!(!told.iter().any(|one| one.starts_with("violation")), "{told:?}");
        assert!(told.last().unwrap().contains("unread gap"), "{told:?}");
        // What was told before the gap is as it was.
        let before = told.iter().position(|one| one.starts_with("gap")).unwrap();
        let cut = told[..before].iter().take_while(|one| !one.starts_with("interrupted")).count();
        assert_eq!(&told[..cut], &TOLD[..cut]);
    }
}

/// Who sent a packet.
fn side(packet: &[u8]) -> Side {
    if packet[12..16] == [10, 0, 0, 1] { Side::Downstream } else { Side::Upstream }
}

#[test]
fn packets_that_were_cut_are_gaps() {
    let session = session();
    let packets = packets(ENDS, &turns(&session));
    let cut: Vec<Frame<'_>> = packets
        .iter()
        .map(|packet| Frame {
            at_us: 1,
            link: 101,
            bytes: &packet[..packet.len().min(128)],
            wire_bytes: packet.len(),
        })
        .collect();
    let mut gaps = Vec::new();
    let mut bytes = 0;
    let mut connection = Connection::new(&segment::read(cut[0]).unwrap());
    for frame in cut {
        connection.take(&segment::read(frame).unwrap(), &mut |output| match output {
            Output::Gap(gap) => gaps.push((gap.side, gap.bytes, gap.why)),
            Output::Bytes { bytes: more, .. } => bytes += more.len(),
            _ => {}
        });
    }
    assert!(connection.is_over());
    let long = u64::try_from(session[5].1.len()).unwrap();
    let missing: u64 = gaps.iter().map(|(_, bytes, _)| bytes).sum();
    assert!(
        gaps.iter().all(|(side, _, why)| (*side, *why) == (Side::Upstream, Why::Snaplen)),
        "{gaps:?}"
    );
    let all: usize = session.iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(missing + u64::try_from(bytes).unwrap(), u64::try_from(all).unwrap());
    assert!(missing > long - 1_000, "{missing} of {long}");
}

#[test]
fn a_segment_that_is_sent_again_otherwise_is_told() {
    let session = session();
    let mut packets = packets(ENDS, &turns(&session));
    let mut forged = packets[5].clone();
    let last = forged.len() - 2;
    forged[last] ^= 1;
    packets.insert(6, forged);
    let (told, _) = heard(captured(&packets, &[]));
    let (conflicts, rest): (Vec<_>, Vec<_>) =
        told.into_iter().partition(|one| one.starts_with("conflict"));
    assert_eq!(conflicts, ["conflict Downstream 1"]);
    assert_eq!(rest, TOLD);
}

#[test]
fn requests_have_their_answers() {
    let asked = b"GET /a?b=1 HTTP/1.1\r\nHost: B:80\r\n\r\nPOST /c HTTP/1.1\r\nHost: B\r\nContent-Length: 2\r\n\r\nxy";
    let answers = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    let turns = [(Side::Downstream, &asked[..]), (Side::Upstream, &answers[..])];
    let expected = [
        "opens -@-",
        "http.request GET /a?b=1 at b ",
        "http.request POST /c at b ",
        "error",
        "interrupted",
        "closed",
    ];
    assert_eq!(heard(file(&turns, &[])).0, expected);
}

#[test]
fn what_cant_be_read_is_told() {
    let tls = [
        (Side::Downstream, &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f][..]),
        (Side::Upstream, b"S"),
        (Side::Downstream, &[0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5]),
    ];
    assert_eq!(heard(file(&tls, &[])).0, [format!("closed, unread {} 11", Unread::Tls.as_str())]);
    let http2 = [(Side::Downstream, &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..])];
    assert_eq!(heard(file(&http2, &[])).0, ["closed, unread unknown_protocol 24"]);
    let other = [(Side::Upstream, &b"SSH-2.0-x\r\n"[..])];
    assert_eq!(heard(file(&other, &[])).0, ["closed, unread unknown_protocol 11"]);
    // A refused request for encryption is followed by the session.
    let session = session();
    let mut refused = vec![
        (Side::Downstream, &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f][..]),
        (Side::Upstream, &b"N"[..]),
    ];
    refused.extend(turns(&session));
    assert_eq!(heard(file(&refused, &[])).0, TOLD);
    // A capture that begins in the middle.
    let packets = packets(ENDS, &turns(&session));
    let (told, _) = heard(captured(&packets[5..], &[]));
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("unread begun_before_capture"), "{told:?}");
    // A capture that ends in the middle: the last packet's statement was under way.
    let (told, _) = heard(captured(&packets[..8], &[]));
    assert_eq!(told.last().map(String::as_str), Some("capture_ended"));
    assert_eq!(told[told.len() - 2], Status::Interrupted.as_str());
    let mut cut = captured(&packets, &[]);
    cut.truncate(cut.len() - 3);
    assert!(heard(cut).1.is_cut);
}

#[test]
fn another_connection_between_the_same_ends_is_another() {
    let session = session();
    let mut packets = packets(ENDS, &turns(&session));
    packets.extend(packets.clone());
    let (told, counts) = heard(captured(&packets, &[]));
    assert_eq!(counts.connections, 2);
    assert_eq!(told, [TOLD, TOLD].concat());
}

#[test]
fn memory_is_bounded_where_nothing_is_in_order() {
    // One byte of the client's is missing, and the server's answer goes on for ever.
    let packets = packets(ENDS, &[(Side::Downstream, b"x"), (Side::Upstream, b"y")]);
    let of = |packet: &[u8]| -> (Vec<u8>, usize) { (packet.to_vec(), packet.len()) };
    let read = |(bytes, wire_bytes): &(Vec<u8>, usize), then: &mut dyn FnMut(&Segment<'_>)| {
        then(
            &segment::read(Frame { at_us: 0, link: 101, bytes, wire_bytes: *wire_bytes }).unwrap(),
        );
    };
    let mut connection = None;
    for packet in &packets[..3] {
        read(&of(packet), &mut |segment| {
            let connection = connection.get_or_insert_with(|| Connection::new(segment));
            connection.take(segment, &mut |_| {});
        });
    }
    let mut connection = connection.unwrap();
    let payload = [0; 16 * 1024];
    let (mut most, mut gaps, mut bytes) = (0, 0, 0);
    read(&of(&packets[4]), &mut |first| {
        for turn in 0..2_000_u32 {
            let seq = first.seq.wrapping_add(1 + turn * 16 * 1024);
            let segment = Segment { seq, ack: None, payload: &payload, ..*first };
            connection.take(&segment, &mut |output| match output {
                Output::Gap(_) => gaps += 1,
                Output::Bytes { bytes: more, .. } => bytes += more.len(),
                _ => {}
            });
            most = most.max(connection.pending_bytes());
        }
    });
    assert!(most <= 9 * 1024 * 1024, "{most}");
    assert_eq!((gaps, bytes), (1, 2_000 * 16 * 1024));
}
