//! HTTP/1 heads that two programs could read in two ways never reach the upstream.

use hearthgate::denial::Denial;

use crate::harness::{Gate, RawUpstream};

/// Each head must be answered with `status`, counted, closed, and unknown to the upstream.
async fn are_refused(heads: &[&[u8]], denial: Denial, status: u16) {
    let mut upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    for (at, head) in heads.iter().enumerate() {
        let mut client = gate.client().await;
        let answer = client.exchange(head).await;
        assert_eq!(answer.status, status, "{}", head.escape_ascii());
        assert_eq!(answer.field("connection"), Some("close"), "{}", head.escape_ascii());
        client.closed().await;
        gate.has_denied(denial, at as u64 + 1).await;
    }
    upstream.is_untouched().await;
}

/// Each head must be answered with 200 by the upstream.
async fn pass(heads: &[&[u8]]) {
    let upstream = crate::harness::FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    for head in heads {
        let answer = gate.client().await.exchange(head).await;
        assert_eq!((answer.status, answer.text()), (200, "home"), "{}", head.escape_ascii());
    }
    assert_eq!(upstream.seen().len(), heads.len());
    gate.has_denied_only(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_with_odd_bytes_are_refused() {
    let heads: &[&[u8]] = &[
        b"GET /a b HTTP/1.1\r\nHost: ha.test\r\n\r\n",
        b"GET  /a HTTP/1.1\r\nHost: ha.test\r\n\r\n",
        b"GET /a\tb HTTP/1.1\r\nHost: ha.test\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: ha.test\r\n\r\n",
        b"GET /a\0b HTTP/1.1\r\nHost: ha.test\r\n\r\n",
        b"GET /a\x01b HTTP/1.1\r\nHost: ha.test\r\n\r\n",
        b"GET /a\x7fb HTTP/1.1\r\nHost: ha.test\r\n\r\n",
        b"GET /a\rb HTTP/1.1\r\nHost: ha.test\r\n\r\n",
        b"GET /a\\b HTTP/1.1\r\nHost: ha.test\r\n\r\n",
        b"GET /a#b HTTP/1.1\r\nHost: ha.test\r\n\r\n",
        b"GET auth/login_flow HTTP/1.1\r\nHost: ha.test\r\n\r\n",
        b"GET ?x HTTP/1.1\r\nHost: ha.test\r\n\r\n",
        b"GET ha.test:443 HTTP/1.1\r\nHost: ha.test\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: ha.test\r\n\r\n",
        b"get / HTTP/1.1\r\nHost: ha.test\r\n\r\n",
        b"GET / HTTP/1.1x\r\nHost: ha.test\r\n\r\n",
        b"GET /\r\nHost: ha.test\r\n\r\n",
    ];
    are_refused(heads, Denial::Malformed, 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bytes_percent_encoded_pass() {
    let heads: &[&[u8]] = &[
        b"GET /a%20b%09%C3%A9%00%5C%23?q=a+b&{x}=~ HTTP/1.1\r\nHost: ha.test\r\n\r\n",
        b"GET /a HTTP/1.1\r\nhost:HA.test:443\r\nX-Odd: \xc3\xa9\r\nX-Empty:\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: ha.test\r\n\r\n",
        b"PROPFIND /dav HTTP/1.1\r\nHost: ha.test\r\n\r\n",
    ];
    pass(heads).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn line_ends_other_than_crlf_are_refused() {
    let heads: &[&[u8]] = &[
        b"GET / HTTP/1.1\nHost: ha.test\n\n",
        b"GET / HTTP/1.1\r\nHost: ha.test\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ha.test\r\nX: a\rb\r\n\r\n",
    ];
    are_refused(heads, Denial::Malformed, 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_lines_before_a_head_are_refused_at_once() {
    // httparse skips them, which would make a head without end look finished: the slowloris that Pingora lets in.
    are_refused(&[b"\r\n\r\nGET / HTTP/1.1\r\nX: a", b"\n", b" ", b"\0"], Denial::Malformed, 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_are_no_fields_are_refused() {
    let heads: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost: ha.test\r\nX: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ha.test\r\nX: a\r\n\tfolded\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: ha.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : ha.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ha.test\r\nX\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ha.test\r\n: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ha.test\r\nX(: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ha.test\r\nX: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ha.test\r\nX: a\x1bb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ha.test\r\nX\xe9: a\r\n\r\n",
    ];
    are_refused(heads, Denial::Malformed, 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_needs_exactly_one_host_that_is_one() {
    let heads: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ha.test\r\nHost: ha.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: user@ha.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ha.test/x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ha.test:99999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: ha.test, ha.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \xe9.test\r\n\r\n",
        b"GET http://evil.test/ HTTP/1.1\r\nHost: ha.test\r\n\r\n",
        b"GET http://ha.test@evil.test/ HTTP/1.1\r\nHost: ha.test\r\n\r\n",
    ];
    are_refused(heads, Denial::BadHost, 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absolute_target_that_agrees_with_its_host_passes() {
    pass(&[
        b"GET https://ha.test/a HTTP/1.1\r\nHost: ha.test\r\n\r\n",
        b"GET http://HA.test:443/a HTTP/1.1\r\nHost: HA.test:443\r\n\r\n",
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_whose_end_is_ambiguous_are_refused() {
    let heads: &[&[u8]] = &[
        b"POST / HTTP/1.1\r\nHost: ha.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: ha.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: ha.test\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: ha.test\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: ha.test\r\nContent-Length: 5, 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: ha.test\r\nContent-Length: +5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: ha.test\r\nContent-Length: 0x5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: ha.test\r\nContent-Length: 9223372036854775808\r\n\r\nhello",
        b"POST / HTTP/1.0\r\nHost: ha.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: ha.test\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: ha.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: ha.test\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: ha.test\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: ha.test\r\nTransfer-Encoding:\r\n\r\n",
    ];
    are_refused(heads, Denial::Malformed, 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_with_one_clear_end_pass() {
    pass(&[
        b"POST / HTTP/1.1\r\nHost: ha.test\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: ha.test\r\nContent-Length: 0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: ha.test\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: ha.test\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: ha.test\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: ha.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_and_trace_are_refused_with_what_is_allowed() {
    let mut upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    for (at, line) in ["CONNECT ha.test:443", "CONNECT evil.test:22", "TRACE /"].iter().enumerate() {
        let mut client = gate.client().await;
        let answer = client.exchange(format!("{line} HTTP/1.1\r\nHost: ha.test\r\n\r\n")).await;
        assert_eq!(answer.status, 405, "{line}");
        assert_eq!(answer.field("allow"), Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        client.closed().await;
        gate.has_denied(Denial::Method, at as u64 + 1).await;
    }
    upstream.is_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_versions_of_http_are_refused() {
    let heads: &[&[u8]] = &[
        b"GET / HTTP/1.2\r\nHost: ha.test\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: ha.test\r\n\r\n",
        b"GET / HTTP/0.9\r\nHost: ha.test\r\n\r\n",
    ];
    are_refused(heads, Denial::Version, 505).await;
}

/// Stricter than RFC 3986 nowhere, and no wider than what is parsed behind us: the rest was refused without a record.
#[tokio::test(flavor = "multi_thread")]
async fn targets_that_would_fail_behind_the_head_reader_are_refused_by_it() {
    let targets = ["/?q=<x>", "/a\"b?c=\"d\"", "/?q=\"", "/a<b", "/a>b", "/a`b"];
    let mut upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    for (at, target) in targets.iter().enumerate() {
        let mut client = gate.client().await;
        let answer = client.exchange(format!("GET {target} HTTP/1.1\r\nHost: ha.test\r\n\r\n")).await;
        assert_eq!((answer.status, answer.field("server")), (400, None), "{target}");
        client.closed().await;
        gate.has_denied(Denial::Malformed, at as u64 + 1).await;
    }
    upstream.is_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_that_browsers_send_against_the_letter_pass() {
    pass(&[
        b"GET /?q=a|b HTTP/1.1\r\nHost: ha.test\r\n\r\n",
        b"GET /a|b?c=^{d}[e] HTTP/1.1\r\nHost: ha.test\r\n\r\n",
        b"GET /a\"b HTTP/1.1\r\nHost: ha.test\r\n\r\n",
        b"GET /?q=%3Cx%3E%22 HTTP/1.1\r\nHost: ha.test\r\n\r\n",
    ])
    .await;
}
