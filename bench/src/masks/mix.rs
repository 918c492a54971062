//! What is searched: results as databases hold them, the same every time. No value in them is anybody's.

use types::redact::{Column, Format};

/// Columns and their rows.
pub(crate) struct Mix {
    pub(crate) name: &'static str,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<Vec<u8>>>,
}

/// About how many bytes of values a mix has: more than the second cache holds.
const MIX_BYTES: usize = 4 << 20;

const TEXT: u32 = 25;
const INT8: u32 = 20;
const BYTEA: u32 = 17;
const JSON: u32 = 114;
const TEXT_ARRAY: u32 = 1009;
const NUMERIC: u32 = 1700;
const JSONB: u32 = 3802;
const TIMESTAMPTZ: u32 = 1184;

impl Mix {
    /// Answers all of them.
    pub(crate) fn all() -> Vec<Self> {
        let one = |name, oid, value: fn(&mut Dice) -> String| {
            Self::of(name, &[("body", oid, Format::Text)], |dice| vec![value(dice).into_bytes()])
        };
        vec![
            one("names", TEXT, |dice| format!("{} {}", dice.one_of(&FIRST), dice.one_of(&LAST))),
            one("notes", TEXT, |dice| note(dice, "")),
            one("notes, a value in each", TEXT, |dice| {
                let hit = dice.one_of(&HITS);
                note(dice, hit)
            }),
            one("documents of 60 KB", TEXT, |dice| {
                let notes: Vec<String> = (0..200).map(|_| note(dice, "")).collect();
                notes.join("\n")
            }),
            one("other scripts (UTF-8)", TEXT, |dice| dice.words(&SCRIPTS, 40)),
            one("JSON", JSON, document),
            one("JSON with e-mail addresses", JSON, |dice| {
                let (id, rest) = (dice.below(1_000_000), document(dice));
                format!("{{\"mail\": \"user{id}@example.com\", \"rest\": {rest}}}")
            }),
            one("arrays of text", TEXT_ARRAY, |dice| {
                let words = dice.words(&WORDS, 8).replace(' ', ",");
                format!("{{\"{} {}\",{words}}}", dice.one_of(&FIRST), dice.one_of(&LAST))
            }),
            one("numbers", NUMERIC, |dice| {
                format!("{}.{:02}", dice.below(10_000_000), dice.below(100))
            }),
            one("numbers of 16 digits", TEXT, |dice| format!("{:016}", dice.next() >> 11)),
            one("times", TEXT, |dice| {
                let (day, hour) = (1 + dice.below(28), dice.below(24));
                format!("2026-11-{day:02} {hour:02}:{:02}:41.52+00", dice.below(60))
            }),
            one("hexadecimal", TEXT, |dice| format!("{:016x}{:016x}", dice.next(), dice.next())),
            one("uuid as text", TEXT, uuid),
            one("base64", TEXT, base64),
            one("bytea", BYTEA, |dice| {
                let words: Vec<String> = (0..16).map(|_| format!("{:016x}", dice.next())).collect();
                format!("\\x{}", words.concat())
            }),
            one("e-mail addresses", TEXT, |dice| {
                format!("{}.{}@example.com", dice.one_of(&FIRST), dice.below(1_000_000))
            }),
            binary(),
            ledger("ledger, one column masked", true, Format::Text),
            ledger("ledger, one column masked, binary", true, Format::Binary),
            ledger("ledger", false, Format::Text),
        ]
    }

    fn of(
        name: &'static str,
        columns: &[(&str, u32, Format)],
        mut row: impl FnMut(&mut Dice) -> Vec<Vec<u8>>,
    ) -> Self {
        let column = |&(name, type_oid, format): &(&str, u32, Format)| Column {
            name: name.into(),
            table_oid: 0,
            attnum: 0,
            type_oid,
            modifier: -1,
            format,
        };
        let columns = columns.iter().map(column).collect();
        let (mut dice, mut rows, mut bytes) = (Dice(0x9e37_79b9), Vec::new(), 0);
        while bytes < MIX_BYTES {
            let row = row(&mut dice);
            bytes += row.iter().map(Vec::len).sum::<usize>();
            rows.push(row);
        }
        Self { name, columns, rows }
    }
}

/// A table of payments; with or without a column of social security numbers, which is masked.
fn ledger(name: &'static str, masked: bool, format: Format) -> Mix {
    let mut columns = vec![
        ("id", INT8, format),
        ("amount", NUMERIC, format),
        ("holder", TEXT, format),
        ("memo", TEXT, format),
        ("booked_at", TIMESTAMPTZ, format),
    ];
    if masked {
        columns.push(("ssn", TEXT, format));
    }
    Mix::of(name, &columns, |dice| {
        let (id, cents) = (dice.below(10_000_000), dice.below(5_000_000));
        let (first, last) = (dice.one_of(&FIRST), dice.one_of(&LAST));
        let memo = format!("payment {id} for invoice {}, thank you", dice.below(7_919));
        let mut row = match format {
            Format::Text => vec![
                id.to_string().into_bytes(),
                format!("{}.{:02}", cents / 100, cents % 100).into_bytes(),
                format!("{first} {last}").into_bytes(),
                memo.into_bytes(),
                b"2026-01-01 00:00:41+00".to_vec(),
            ],
            Format::Binary => vec![
                id.to_be_bytes().to_vec(),
                numeric(cents),
                format!("{first} {last}").into_bytes(),
                memo.into_bytes(),
                (id * 1_000_000).to_be_bytes().to_vec(),
            ],
        };
        if masked {
            let (area, serial) = (100 + dice.below(500), 1_000 + dice.below(8_999));
            row.push(format!("{area}-{}-{serial}", 10 + dice.below(89)).into_bytes());
        }
        row
    })
}

/// Texts and documents in their binary forms, and numbers.
fn binary() -> Mix {
    let format = Format::Binary;
    let columns = [
        ("body", TEXT, format),
        ("document", JSONB, format),
        ("amount", NUMERIC, format),
        ("tags", TEXT_ARRAY, format),
    ];
    Mix::of("binary: text, jsonb, numeric, text[]", &columns, |dice| {
        let document = [&[1], document(dice).as_bytes()].concat();
        let mut tags: Vec<u8> =
            [1, 0, TEXT, 4, 1].iter().flat_map(|head: &u32| head.to_be_bytes()).collect();
        for _ in 0..4 {
            let word = dice.one_of(&WORDS);
            tags.extend(u32::try_from(word.len()).unwrap_or_default().to_be_bytes());
            tags.extend(word.as_bytes());
        }
        let cents = dice.below(5_000_000);
        vec![note(dice, "").into_bytes(), document, numeric(cents), tags]
    })
}

/// A numeric's binary form: digits of base 10,000, their weight, sign and scale.
fn numeric(cents: u64) -> Vec<u8> {
    let digits = [cents / 1_000_000, cents / 100 % 10_000, cents % 100 * 100];
    let head = [3, 1, 0, 2].into_iter().chain(digits);
    head.flat_map(|part| u16::try_from(part).unwrap_or_default().to_be_bytes()).collect()
}

/// Some lines of prose, with dates and amounts as people write them.
fn note(dice: &mut Dice, hit: &str) -> String {
    let (head, tail) = (dice.words(&WORDS, 25), dice.words(&WORDS, 20));
    let (day, amount) = (1 + dice.below(28), dice.below(9_000));
    format!("{head} on 2026-03-{day:02} about {amount}.50 {hit} and invoice {amount}. {tail}")
}

fn document(dice: &mut Dice) -> String {
    let (id, who) = (dice.below(1_000_000), dice.one_of(&LAST));
    let tags = dice.words(&WORDS, 4).replace(' ', "\", \"");
    format!(
        "{{\"id\": {id}, \"holder\": \"{who}\", \"tags\": [\"{tags}\"], \"open\": true, \"at\": \
         \"2026-11-21T10:15:30Z\", \"amount\": {}.25, \"note\": \"{}\"}}",
        dice.below(100_000),
        dice.words(&WORDS, 12)
    )
}

fn uuid(dice: &mut Dice) -> String {
    let (high, low) = (dice.next(), dice.next());
    let (a, b, c) = (high >> 32, high >> 16 & 0xffff, high & 0xfff);
    format!("{a:08x}-{b:04x}-4{c:03x}-{:04x}-{:012x}", low >> 48 | 0x8000, low & 0xffff_ffff_ffff)
}

fn base64(dice: &mut Dice) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (0..344).map(|_| char::from(*dice.one_of(LETTERS))).collect()
}

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    /// xorshift64* (Vigna, 2016).
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_of<'l, T>(&mut self, list: &'l [T]) -> &'l T {
        let at = self.below(list.len() as u64);
        let one = usize::try_from(at).ok().and_then(|at| list.get(at));
        one.expect("lists here have elements")
    }

    fn words(&mut self, list: &[&str], count: usize) -> String {
        let words: Vec<&str> = (0..count).map(|_| *self.one_of(list)).collect();
        words.join(" ")
    }
}

const FIRST: [&str; 8] = ["Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gustavo", "Hana"];
const LAST: [&str; 8] =
    ["Archer", "Baker", "Cooper", "Draper", "Fisher", "Glover", "Mason-Wells", "O'Hara"];
const WORDS: [&str; 24] = [
    "the", "customer", "asked", "whether", "a", "transfer", "from", "account", "was", "booked",
    "twice", "and", "we", "called", "back", "to", "say", "that", "it", "had", "been", "returned",
    "in", "full",
];
const SCRIPTS: [&str; 8] =
    ["Überweisung", "für", "прошлый", "платёж", "お客様", "送金", "déjà", "reçu"];
const HITS: [&str; 6] = [
    "078-05-1120",
    "4000001234567899",
    "jo.doe@example.com",
    "DE89 3704 0044 0532 0130 00",
    "+1 (415) 555-2671",
    "4000 0012 3456 7899",
];
