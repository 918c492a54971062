//! Link types, IP, what is cut and what is nonsense.

use proptest::collection::vec;
use proptest::prelude::*;

use super::whole::packets;
use crate::segment::{Other, read};
use crate::source::{Frame, Source};

/// A bare IP packet with a payload, as the writer makes it.
fn bare(v6: bool) -> Vec<u8> {
    let ends = if v6 { ("[::1]:40000", "[::1]:5432") } else { ("10.0.0.1:40000", "10.0.0.2:5432") };
    packets(ends, &[(types::addr::Side::Downstream, b"SELECT 1")]).remove(3)
}

fn frame(link: i32, bytes: &[u8]) -> Frame<'_> {
    Frame { at_us: 5, link, bytes, wire_bytes: bytes.len() }
}

#[test]
fn every_link_type_has_its_segment() {
    let zeros = |count: usize| vec![0_u8; count];
    let ethernet = |kind: u16, tags: &[u16]| {
        let mut head = zeros(12);
        for tag in tags {
            head.extend(tag.to_be_bytes());
            head.extend([0, 7]);
        }
        head.extend(kind.to_be_bytes());
        head
    };
    let cooked = |kind: u16| [zeros(14), kind.to_be_bytes().to_vec()].concat();
    let cooked2 = |kind: u16| [kind.to_be_bytes().to_vec(), zeros(18)].concat();
    for (v6, kind) in [(false, 0x0800), (true, 0x86dd)] {
        let packet = bare(v6);
        for (link, head) in [
            (101, Vec::new()),
            (12, Vec::new()),
            (if v6 { 229 } else { 228 }, Vec::new()),
            (0, vec![2, 0, 0, 0]),
            (108, vec![0, 0, 0, 2]),
            (1, ethernet(kind, &[])),
            (1, ethernet(kind, &[0x8100])),
            (1, ethernet(kind, &[0x88a8, 0x8100])),
            (113, cooked(kind)),
            (276, cooked2(kind)),
        ] {
            let mut bytes = [head, packet.clone()].concat();
            let segment = read(frame(link, &bytes)).unwrap();
            assert_eq!((segment.payload, segment.missing), (&b"SELECT 1"[..], 0), "{link}");
            assert_eq!((segment.from.port(), segment.to.port()), (40_000, 5_432));
            // What pads a short frame is none of it.
            bytes.extend([0; 6]);
            assert_eq!(read(frame(link, &bytes)).unwrap().payload, b"SELECT 1", "{link}");
        }
    }
    assert_eq!(read(frame(147, &bare(false))), Err(Other::Link(147)));
    assert_eq!(read(frame(1, &ethernet(0x0806, &[]))), Err(Other::NoIp));
}

#[test]
fn what_is_cut_says_how_much_is_missing() {
    let packet = bare(false);
    for kept in 0..packet.len() {
        let cut = Frame { wire_bytes: packet.len(), ..frame(101, &packet[..kept]) };
        match read(cut) {
            Ok(segment) => {
                assert!(kept >= 40);
                assert_eq!(
                    (segment.payload.len(), segment.missing),
                    (kept - 40, packet.len() - kept)
                );
            }
            Err(other) => assert!(kept < 40 && other == Other::Cut, "{kept}: {other:?}"),
        }
    }
}

#[test]
fn fragments_and_other_protocols_are_told() {
    let with = |at: usize, byte: u8| {
        let mut packet = bare(false);
        packet[at] = byte;
        packet
    };
    for (packet, other) in [
        (with(6, 0x20), Other::Fragment),
        (with(7, 1), Other::Fragment),
        (with(9, 17), Other::NoTcp),
        (with(0, 0x44), Other::Malformed),
        (with(3, 19), Other::Malformed),
        (with(32, 0x40), Other::Malformed),
    ] {
        assert_eq!(read(frame(228, &packet)), Err(other), "{packet:02x?}");
    }
}

proptest! {
    #[test]
    fn no_frame_panics(bytes in vec(any::<u8>(), 0..200), link in 0..300_i32, more in 0..100_usize) {
        for link in [link, 0, 1, 101, 113, 228, 229, 276] {
            let wire_bytes = bytes.len() + more;
            if let Ok(segment) = read(Frame { wire_bytes, ..frame(link, &bytes) }) {
                prop_assert!(segment.payload.len() <= bytes.len());
            }
        }
    }
}

proptest! {
    // Each reads a megabyte at once.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_file_panics(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        kept in any::<prop::sample::Index>(),
    ) {
        let mut file = super::whole::file(&[(types::addr::Side::Downstream, b"x")], &["a comment"]);
        let at = at.index(file.len());
        file[at] = byte;
        file.truncate(kept.index(file.len()) + 1);
        let path = std::path::Path::new("a");
        if let Ok(mut source) = Source::new(path, std::io::Cursor::new(file)) {
            // A file of few bytes has fewer blocks.
            for _ in 0..1_000 {
                let more = source.next(&mut |frame| {
                    assert!(read(frame).is_ok_and(|segment| segment.missing < 1 << 17) || at > 0);
                });
                match more {
                    Ok(true) => {}
                    Ok(false) | Err(_) => break,
                }
            }
        }
    }
}
