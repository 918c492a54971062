//! What was said comes out as it was said, however it was cut, mixed, repeated or captured; what is missing is told.

mod frames;
mod whole;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::map::{Map, MapError};
use crate::stream::{Content, Known, Stream};

/// A segmentation: where each piece begins and how long it is, among `length` bytes, in any order; all is covered.
fn segments(length: usize) -> impl Strategy<Value = Vec<(usize, usize)>> {
    let cuts = vec(1..200_usize, 1..40);
    let again = vec((0..length, 1..300_usize), 0..20);
    (cuts, again).prop_flat_map(move |(cuts, again)| {
        let mut all = Vec::new();
        let (mut at, mut cuts) = (0, cuts.into_iter().cycle());
        while at < length {
            let size = cuts.next().unwrap().min(length - at);
            all.push((at, size));
            at += size;
        }
        all.extend(again.into_iter().map(|(at, size)| (at, size.min(length - at))));
        Just(all).prop_shuffle()
    })
}

fn take_all(stream: &mut Stream, to: &mut Vec<u8>) {
    while let Some(piece) = stream.take() {
        match piece.content {
            Content::Bytes(bytes) => to.extend(bytes),
            Content::Missing(count) => panic!("{count} bytes are missing"),
        }
    }
}

proptest! {
    #[test]
    fn any_segmentation_order_and_repetition_gives_the_same_bytes(
        bytes in vec(any::<u8>(), 1..4_000),
        seed in any::<prop::sample::Index>(),
        first in any::<u32>(),
        eager in any::<bool>(),
    ) {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        for _ in 0..=seed.index(4) {
            let tree = segments(bytes.len()).new_tree(&mut runner).unwrap();
            let mut stream = Stream::default();
            stream.begin(first);
            let mut got = Vec::new();
            for (at, size) in proptest::strategy::ValueTree::current(&tree) {
                let number = first.wrapping_add(u32::try_from(at).unwrap());
                let place = stream.place(number).unwrap();
                prop_assert_eq!(place, i64::try_from(at).unwrap());
                let known = stream.insert(place, (&bytes[at..at + size], 0), 0, None);
                prop_assert_eq!(known.differing, 0);
                if eager {
                    take_all(&mut stream, &mut got);
                }
            }
            take_all(&mut stream, &mut got);
            prop_assert_eq!(&got, &bytes);
            prop_assert_eq!((stream.pending_bytes(), stream.pending_pieces()), (0, 0));
        }
    }

    #[test]
    fn what_comes_again_otherwise_is_told_and_what_came_first_stands(
        bytes in vec(any::<u8>(), 64..2_000),
        at in any::<prop::sample::Index>(),
        start in any::<prop::sample::Index>(),
        is_taken in any::<bool>(),
    ) {
        let at = at.index(bytes.len());
        let start = start.index(at + 1);
        let mut stream = Stream::default();
        stream.begin(7);
        let known = stream.insert(0, (&bytes[..], 0), 0, None);
        prop_assert_eq!(known, Known::default());
        let mut got = Vec::new();
        if is_taken {
            take_all(&mut stream, &mut got);
        }
        let mut other = bytes[start..].to_vec();
        other[at - start] ^= 0x20;
        let known = stream.insert(i64::try_from(start).unwrap(), (&other, 0), 0, None);
        prop_assert_eq!((known.differing, known.uncompared), (1, 0));
        prop_assert_eq!(known.same + 1, other.len() as u64);
        take_all(&mut stream, &mut got);
        prop_assert_eq!(got, bytes);
    }
}

#[test]
fn an_address_is_whose_the_narrowest_entry_says() {
    let map = Map::parse(
        r#"
        [[agent]]
        name = "wide"
        addresses = ["10.0.0.0/8", "fd00::/8"]
        owner = "ann"
        [[agent]]
        name = "narrow"
        addresses = ["10.1.0.0/16"]
        [[agent]]
        name = "one"
        addresses = ["10.1.2.3", "[fd00::1]:99"]
        [[agent]]
        name = "port"
        addresses = ["10.0.0.0/8:40001"]
        [[target]]
        name = "bank"
        addresses = ["10.9.0.5:5432"]
        "#,
    )
    .unwrap();
    let agent = |at: &str| map.agent(at.parse().unwrap()).map(|agent| agent.name.to_string());
    for (at, whose) in [
        ("10.2.0.1:5", Some("wide")),
        ("10.1.9.9:5", Some("narrow")),
        ("10.1.2.3:5", Some("one")),
        ("10.1.2.3:40001", Some("port")),
        ("[fd00::1]:99", Some("one")),
        ("[fd00::1]:98", Some("wide")),
        ("[::ffff:10.1.2.3]:5", Some("one")),
        ("11.0.0.1:5", None),
    ] {
        assert_eq!(agent(at).as_deref(), whose, "{at}");
    }
    assert_eq!(map.agent("10.2.0.1:5".parse().unwrap()).unwrap().owner.as_deref(), Some("ann"));
    assert_eq!(map.target("10.9.0.5:5432".parse().unwrap()).map(|name| &**name), Some("bank"));
    assert_eq!(map.target("10.9.0.5:5433".parse().unwrap()), None);
}

#[test]
fn maps_with_slips_are_refused() {
    let entry = |addresses: &str| {
        Map::parse(&format!("[[agent]]\nname = \"a\"\naddresses = [{addresses}]\n"))
    };
    for none in
        ["\"10.1.2.3/8\"", "\"10.1.2\"", "\"10.0.0.0/33\"", "\"a:5\"", "\"[::1\"", "\"::1]:5\""]
    {
        assert!(matches!(entry(none), Err(MapError::Address(_))), "{none}");
    }
    assert!(matches!(entry("\"::1\", \"::1\""), Err(MapError::Twice(_))));
    assert!(matches!(Map::parse("[[agents]]\n"), Err(MapError::Syntax(_))));
    let reserved = "[[agent]]\nname = \"unmapped\"\naddresses = []\n";
    assert!(matches!(Map::parse(reserved), Err(MapError::Reserved)));
}
