use std::net::Ipv4Addr;

use hickory_resolver::proto::rr::rdata::A;
use hickory_resolver::proto::rr::{Name, RData};
use proptest::prelude::*;

use super::*;

fn question(name: &str, record_type: RecordType, edns: bool) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), record_type));
    if edns {
        let mut edns = Edns::new();
        edns.set_max_payload(4_096);
        message.set_edns(edns);
    }
    message.to_vec().unwrap()
}

fn code(unfit: Unfit) -> ResponseCode {
    let Unfit::Answer(answer) = unfit else { panic!("silent") };
    Message::from_vec(&answer).unwrap().metadata.response_code
}

fn long_answer(records: u32) -> Answer {
    let name = Name::from_ascii("db.bank.example.").unwrap();
    let record = |n: u32| Record::from_rdata(name.clone(), 60, RData::A(A(Ipv4Addr::from(n))));
    Answer { answers: (0..records).map(record).collect(), ..Answer::default() }
}

#[test]
fn a_question_is_its_name_and_type_and_nothing_else() {
    let parsed = Question::parse(&question("DB.Bank.Example.", RecordType::A, true)).unwrap();
    assert_eq!((&*parsed.name, &*parsed.mnemonic()), ("db.bank.example", "A"));
    let root = Question::parse(&question(".", RecordType::NS, false)).unwrap();
    assert_eq!(&*root.name, ".");
    let odd = Question::parse(&question("x.", RecordType::Unknown(65_280), false)).unwrap();
    assert_eq!(&*odd.mnemonic(), "TYPE65280");
}

#[test]
fn an_answer_repeats_the_question_as_it_was_written() {
    let parsed = Question::parse(&question("Db.BANK.example.", RecordType::A, false)).unwrap();
    let answer = Message::from_vec(&parsed.datagram(&long_answer(1))).unwrap();
    assert_eq!(answer.queries[0].name().to_ascii(), "Db.BANK.example.");
    assert_eq!((answer.metadata.id, answer.answers.len()), (7, 1));
    assert!(answer.metadata.recursion_available && answer.metadata.recursion_desired);
    assert!(answer.edns.is_none(), "who speaks no EDNS is answered none");
}

#[test]
fn what_is_too_long_for_a_datagram_is_truncated() {
    for (edns, records, is_cut) in
        [(false, 20, false), (false, 40, true), (true, 60, false), (true, 100, true)]
    {
        let parsed = Question::parse(&question("db.bank.example.", RecordType::A, edns)).unwrap();
        let bytes = parsed.datagram(&long_answer(records));
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!(answer.metadata.truncation, is_cut, "{edns} {records}");
        assert!(bytes.len() <= if edns { 1_232 } else { 512 });
        assert_eq!(answer.answers.is_empty(), is_cut);
        let whole = Message::from_vec(&parsed.message(&long_answer(records))).unwrap();
        assert_eq!(whole.answers.len(), usize::try_from(records).unwrap());
    }
}

#[test]
fn an_error_is_explained_to_who_speaks_edns() {
    let answer = Answer::error(ResponseCode::Refused, ExtendedError::Blocked, "é".repeat(500));
    let parsed = Question::parse(&question("x.", RecordType::A, true)).unwrap();
    let message = Message::from_vec(&parsed.datagram(&answer)).unwrap();
    let option = message.edns.as_ref().unwrap().option(EXTENDED_ERROR.into()).unwrap();
    let EdnsOption::Unknown(15, data) = option else { panic!("{option:?}") };
    assert_eq!((&data[..2], data.len()), (&[0, 15][..], 202));
    assert_eq!(message.metadata.response_code, ResponseCode::Refused);
}

#[test]
fn what_is_no_question_is_told_so() {
    let good = question("db.bank.example.", RecordType::A, true);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Question::parse(&bytes).map(|q| q.name)
    };
    assert_eq!(with(2, 0x80).unwrap_err(), Unfit::Silent, "a response");
    assert_eq!(code(with(2, 0x28).unwrap_err()), ResponseCode::NotImp, "an update");
    assert_eq!(code(with(5, 2).unwrap_err()), ResponseCode::FormErr, "two questions");
    assert_eq!(code(with(4, 255).unwrap_err()), ResponseCode::FormErr, "65,281 questions");
    assert_eq!(code(with(7, 1).unwrap_err()), ResponseCode::FormErr, "an answer in it");
    assert_eq!(code(with(12, 200).unwrap_err()), ResponseCode::FormErr, "a label that is none");
    for kind in [RecordType::AXFR, RecordType::IXFR, RecordType::OPT] {
        let unfit = Question::parse(&question("x.", kind, false)).unwrap_err();
        assert_eq!(code(unfit), ResponseCode::NotImp, "{kind}");
    }
    let mut chaos = question("version.bind.", RecordType::TXT, false);
    let end = chaos.len();
    chaos[end - 1] = 3;
    assert_eq!(code(Question::parse(&chaos).unwrap_err()), ResponseCode::NotImp);
    let mut long = good.clone();
    long.resize(QUESTION_BYTES_MAX + 1, 0);
    assert_eq!(Question::parse(&long).unwrap_err(), Unfit::Silent);
}

/// An answer to garbage is a message, and never longer than what was sent by much: no amplifier.
fn check(bytes: &[u8]) {
    match Question::parse(bytes) {
        Ok(question) => {
            assert!(question.name.len() <= 4 * 255 && !question.name.is_empty());
            assert!(question.datagram(&long_answer(3)).len() <= 1_232);
        }
        Err(Unfit::Answer(answer)) => {
            Message::from_vec(&answer).unwrap();
            assert!(answer.len() <= bytes.len() + 11, "{} for {}", answer.len(), bytes.len());
        }
        Err(Unfit::Silent) => {}
    }
}

proptest! {
    #[test]
    fn garbage_is_no_question(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        check(&bytes);
    }

    #[test]
    fn a_spoilt_question_is_one_or_none(
        at in 0_usize..60, byte in any::<u8>(), cut in 0_usize..80, tail in any::<[u8; 8]>(),
    ) {
        let mut bytes = question("db.bank.example.", RecordType::TXT, true);
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        bytes.truncate(cut);
        check(&bytes);
        bytes.extend_from_slice(&tail);
        check(&bytes);
    }
}
