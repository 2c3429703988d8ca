//! Any bytes as a DNS message, of a function or of a server upstream: never a panic, and an answer of ours is one that reads
//! back, repeats the question and grows by no more than its records.
#![no_main]

use network::names::Name;
use network::names::wire::{Code, Data, Question, Unreadable, addresses, is_truncated, query};
use std::net::IpAddr;

/// Addresses taken from one answer.
const MOST: usize = 8;

libfuzzer_sys::fuzz_target!(|input: (&[u8], &[u8], Vec<IpAddr>)| {
    let (message, upstream, given) = input;
    assert!(addresses(upstream, MOST).len() <= MOST);
    let _ = is_truncated(upstream);
    let question = match Question::read(message) {
        Ok(question) => question,
        // What says that it is unreadable is an answer, and nothing that could be answered again.
        Err(Unreadable::Answer(answer)) => return assert_eq!(Question::read(&answer), Err(Unreadable::Silence)),
        Err(Unreadable::Silence) => return,
    };
    let _ = question.is_answered_by(upstream, question.id());
    let data: Vec<Data> = given.iter().take(MOST).map(|address| Data::Address(*address)).collect();
    let zone = Name::new("example.com");
    for answer in [question.answer(Code::NoError, &data, zone.as_ref()), question.truncated()] {
        assert!(question.is_answered_by(&answer, question.id()));
        assert_eq!(Question::read(&answer), Err(Unreadable::Silence));
        assert!(answer.len() <= message.len() + 28 * data.len() + 100);
    }
    let answer = question.answer(Code::NoError, &data, None);
    assert_eq!(addresses(&answer, MOST), given[..data.len()]);
    if let Some(name) = &question.name {
        let again = query(name, question.kind);
        assert_eq!(Question::read(&again).map(|question| question.name), Ok(Some(name.clone())));
    }
});
