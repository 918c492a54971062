//! The fuzzers' corpora as plain tests; the session's own runs beside its sessions.

use integration::paths;

#[path = "../fuzz/passage.rs"]
mod passage;

fn each(corpus: &str, least: usize, run: fn(&[u8])) {
    let mut count = 0;
    for entry in std::fs::read_dir(paths::root().join("tests/fuzz/corpus").join(corpus)).unwrap() {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= least, "{corpus}: {count}");
}

#[test]
fn what_the_fuzzers_found_still_holds() {
    each("sql_analysis", 20, proto::sql::fuzz::one_input);
    each("http_requests", 20, proto::http::fuzz::one_input);
    each("masks", 20, |input| match input.split_first() {
        Some((way, rest)) if way & 1 == 0 => mask::fuzz::one_input(rest),
        Some((_, rest)) => passage::one_input(rest),
        None => {}
    });
}
