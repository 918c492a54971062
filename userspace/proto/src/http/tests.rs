use proptest::prelude::*;
use types::command::Action;
use types::limits::{HTTP_PATH_BYTES_MAX, HTTP_QUERY_BYTES_MAX};

use super::media::Kind;
use super::{Refused, fuzz, head, media, read};

#[track_caller]
fn template(path: &str, expected: &str) {
    assert_eq!(&*read("GET", path, None).unwrap().template, expected, "{path}");
}

#[test]
fn values_in_paths_are_placeholders() {
    for (path, expected) in [
        ("/", "/"),
        ("/v1/accounts", "/v1/accounts"),
        ("/v1/accounts/", "/v1/accounts/"),
        ("/v1/accounts/4711", "/v1/accounts/$1"),
        ("/apis/v1beta1/accountHolders/7/cards/8", "/apis/v1beta1/accountHolders/$1/cards/$2"),
        ("/oauth2/token.json", "/oauth2/token.json"),
        ("/customers/jo.doe%40bank.example/notes", "/customers/$1/notes"),
        ("/c/123e4567-e89b-12d3-a456-426614174000", "/c/$1"),
        ("/files/deadbeefcafe/x", "/files/$1/x"),
        ("/t/eyJhbGciOiJIUzI1NiJ9", "/t/$1"),
        ("/t/dGhpc2lzYXRva2Vu", "/t/$1"),
        ("/t/abcdefghijklmnopqrstuvwxyzabc", "/t/$1"),
        ("/ssn/078-05-1120", "/ssn/$1"),
        ("/caf%C3%A9/2024-01-05", "/$1/$2"),
        ("/a%20b", "/$1"),
    ] {
        template(path, expected);
    }
}

#[test]
fn a_request_is_recorded_without_values_and_without_secrets() {
    let asked = read(
        "POST",
        "/v1/transfers/99",
        Some("from=DE89&access_token=abc&api%2Dkey=k&note=a+b%26c&flag&x=ghp_0123456789ab"),
    )
    .unwrap();
    assert_eq!(asked.action, Action::Submit);
    assert_eq!(
        &*asked.statement.normalized,
        "POST /v1/transfers/$1?from=$2&access_token=$3&$4=$5&note=$6&flag&x=$7"
    );
    assert_eq!(
        &*asked.statement.text,
        "POST /v1/transfers/99?from=DE89&access_token=[secret]&api-key=[secret]&note=a b&c&flag&x=[secret]"
    );
    let names: Vec<&str> = asked.names.iter().map(AsRef::as_ref).collect();
    assert_eq!(names, ["from", "access_token", "api-key", "note", "flag", "x"]);
    assert_eq!((asked.statement.verb, asked.statement.needs_wal()), ("POST", true));
    let other = read("POST", "/v1/transfers/100", Some("from=1&access_token=2&api-key=3")).unwrap();
    assert!(other.statement.fingerprint != asked.statement.fingerprint);
}

#[test]
fn methods_are_read_or_written() {
    for (method, action, verb) in [
        ("GET", Action::Fetch, "GET"),
        ("HEAD", Action::Fetch, "HEAD"),
        ("OPTIONS", Action::Fetch, "OPTIONS"),
        ("DELETE", Action::Submit, "DELETE"),
        ("PROPFIND", Action::Submit, "OTHER"),
        ("get", Action::Submit, "OTHER"),
    ] {
        let asked = read(method, "/", None).unwrap();
        assert_eq!((asked.action, asked.statement.verb), (action, verb), "{method}");
    }
    assert_eq!(read("TRACE", "/", None), Err(Refused::Method));
    assert_eq!(read("CONNECT", "/", None), Err(Refused::Upgrade));
    assert_eq!(read(&"M".repeat(35), "/", None), Err(Refused::Method));
}

#[test]
fn a_path_has_one_reading() {
    for (path, wire) in [
        ("/a/%62c", "/a/bc"),
        ("/a%2Bb", "/a+b"),
        ("/a%3ab", "/a:b"),
        ("/%e2%82%ac", "/%E2%82%AC"),
        ("/a b", "/a%20b"),
    ] {
        assert_eq!(read("GET", path, None).unwrap().wire, wire, "{path}");
    }
    for path in [
        "",
        "*",
        "x",
        "http://a/",
        "//",
        "//a",
        "/a//b",
        "/.",
        "/a/../b",
        "/a/%2e%2E/b",
        "/a%2fb",
        "/a%5Cb",
        "/a\\b",
        "/a%00",
        "/a%0ab",
        "/a%2",
        "/a%zz",
        "/a%25252e",
        "/a;x/b",
        "/a%3bx",
        "/%ff",
        "/a%3fb",
        "/a%23b",
    ] {
        assert!(read("GET", path, None).is_err(), "{path}");
    }
    let long = |bytes: usize| format!("/{}", "x".repeat(bytes - 1));
    assert!(read("GET", &long(HTTP_PATH_BYTES_MAX), None).is_ok());
    assert_eq!(read("GET", &long(HTTP_PATH_BYTES_MAX + 1), None), Err(Refused::Path));
    assert_eq!(read("GET", &"/a".repeat(65), None), Err(Refused::Path));
    assert_eq!(read("GET", "/", Some(&"x".repeat(HTTP_QUERY_BYTES_MAX + 1))), Err(Refused::Query));
    assert_eq!(read("GET", "/", Some(&"x&".repeat(257))), Err(Refused::Query));
}

#[test]
fn heads_with_two_readings_are_refused() {
    let check = |fields: &str, expected: Result<(), Refused>| {
        let head = format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        assert_eq!(head::examine(head.as_bytes()), expected, "{fields:?}");
    };
    check("", Ok(()));
    check("Content-Length: 5\r\n", Ok(()));
    check("Transfer-Encoding: Chunked\r\n", Ok(()));
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length:\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
    ] {
        check(fields, Err(Refused::Framing));
    }
    for fields in [
        "Content-Length : 5\r\n",
        "X: a\r\n b\r\n",
        " X: a\r\n",
        "X\r\n",
        ": a\r\n",
        "X: a\nY: b\r\n",
        "X: a\rb\r\n",
        "X: a\0\r\n",
        "Transfer-Encoding\0: chunked\r\n",
    ] {
        check(fields, Err(Refused::Head));
    }
    check("Host: b\r\n", Err(Refused::Host));
    check("hOsT: a\r\n", Err(Refused::Host));
    let line = |line: &str| head::examine(format!("{line}\r\nHost: a\r\n\r\n").as_bytes());
    assert_eq!(line("GET /a?b HTTP/1.1"), Ok(()));
    assert_eq!(line("GET /a HTTP/1.0"), Err(Refused::Version));
    assert_eq!(line("PRI * HTTP/2.0"), Err(Refused::Version));
    assert_eq!(line("GET  /a HTTP/1.1"), Err(Refused::Head));
    assert_eq!(line("GET /a b HTTP/1.1"), Err(Refused::Head));
    assert_eq!(line("GET\t/a HTTP/1.1"), Err(Refused::Head));
    assert_eq!(line("\r\nGET /a HTTP/1.1"), Err(Refused::Head));
    assert_eq!(line("GET /a#b HTTP/1.1"), Err(Refused::Target));
    assert_eq!(line("get /a HTTP/1.1"), Err(Refused::Method));
    assert_eq!(head::examine(b"GET / HTTP/1.1\r\nHost: a\r\n"), Err(Refused::Head));
    assert_eq!(head::examine(b"GET / HTTP/1.1\r\n\r\n"), Err(Refused::Host));
}

#[test]
fn texts_are_told_from_what_masks_can_not_be_applied_to() {
    for (content_type, kind) in [
        ("application/json", Kind::Json),
        ("Application/Problem+JSON; charset=\"UTF-8\"", Kind::Json),
        ("application/x-ndjson", Kind::Json),
        ("text/html; charset=iso-8859-1", Kind::Text),
        ("text/event-stream", Kind::Text),
        ("image/svg+xml", Kind::Text),
        ("application/x-www-form-urlencoded", Kind::Text),
        ("text/plain; charset=utf-16", Kind::Other),
        ("application/json; charset=utf-32le", Kind::Other),
        ("application/octet-stream", Kind::Other),
        ("multipart/byteranges; boundary=x", Kind::Other),
        ("", Kind::Other),
    ] {
        assert_eq!(media::read(Some(content_type)).kind, kind, "{content_type}");
    }
    assert_eq!(media::read(Some("Text/HTML ;x=y")).essence, "text/html");
}

proptest! {
    #[test]
    fn arbitrary_requests_do_not_panic(input in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzz::one_input(&input);
    }

    #[test]
    fn paths_of_all_kinds_keep_their_reading(path in "(/[a-z0-9%.;@ A-F]{0,8}){1,6}(\\?[a-z=&%+0-9]{0,20})?") {
        fuzz::one_input(path.as_bytes());
    }
}
