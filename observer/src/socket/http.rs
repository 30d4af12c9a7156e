//! The part of HTTP/1.1 that reading metrics needs: the head of one request, and its response. Each connection has one request.

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

/// Bytes of a request's head.
pub const HEAD_BYTES_MAX: usize = 8 << 10;
/// Header fields of a request.
const FIELDS_MAX: usize = 64;
/// The path of the metrics.
const PATH: &str = "/metrics";
/// Prometheus' text format, as Prometheus names it.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// Why a request gets no metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpRefusal {
    /// It is no request of HTTP/1.1 or HTTP/1.0.
    Malformed,
    /// Its head is larger than [`HEAD_BYTES_MAX`], or has more than [`FIELDS_MAX`] fields.
    TooLarge,
    /// It asks for another path.
    NotFound,
    /// It is neither GET nor HEAD.
    Method,
    /// The event loop gave no numbers in time.
    NoNumbers,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// Whether it gets metrics.
    pub wants: Result<(), HttpRefusal>,
    /// Whether the response has no body.
    pub is_head: bool,
}

impl From<HttpRefusal> for HttpRequest {
    fn from(refusal: HttpRefusal) -> Self {
        Self { wants: Err(refusal), is_head: false }
    }
}

impl HttpRequest {
    /// Parses a head. `None` where it does not end yet; `new_from` is where the bytes begin that came last.
    pub fn parse(bytes: &[u8], new_from: usize) -> Option<Self> {
        let may_end = ends(bytes, new_from);
        if !may_end {
            return (bytes.len() >= HEAD_BYTES_MAX).then(|| HttpRefusal::TooLarge.into());
        }
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        Some(match request.parse(bytes) {
            Ok(httparse::Status::Complete(_)) => Self::of(&request),
            Err(httparse::Error::TooManyHeaders) => HttpRefusal::TooLarge.into(),
            Ok(httparse::Status::Partial) | Err(_) => HttpRefusal::Malformed.into(),
        })
    }

    fn of(request: &httparse::Request<'_, '_>) -> Self {
        let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
        let hosts = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("host")).count();
        let has_host = if request.version == Some(0) { hosts <= 1 } else { hosts == 1 };
        let wants = match (has_host, path(target) == PATH, method) {
            (false, _, _) => Err(HttpRefusal::Malformed),
            (true, false, _) => Err(HttpRefusal::NotFound),
            (true, true, "GET" | "HEAD") => Ok(()),
            (true, true, _) => Err(HttpRefusal::Method),
        };
        Self { wants, is_head: method == "HEAD" }
    }
}

/// Whether a head ends in the bytes from `new_from` on. A head is parsed once: one that comes byte by byte costs no more.
fn ends(bytes: &[u8], new_from: usize) -> bool {
    let new = bytes.get(new_from.saturating_sub(3)..).unwrap_or_default();
    [&b"\r\n\r\n"[..], b"\n\n", b"\n\r\n"].iter().any(|end| new.windows(end.len()).any(|it| it == *end))
}

/// The path of a target, which may be a whole address, and have a query.
fn path(target: &str) -> &str {
    let scheme = "http://";
    let is_whole = target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    let target = match is_whole {
        true => {
            target.get(scheme.len()..).and_then(|rest| Some(rest.split_at(rest.find('/')?).1)).unwrap_or("/")
        }
        false => target,
    };
    target.split(['?', '#']).next().unwrap_or_default()
}

/// The response that has `metrics`, at a time in ns since 1970.
pub fn metrics_response(metrics: &[u8], is_head: bool, at_ns: i128) -> Vec<u8> {
    response("200 OK", METRICS_TYPE, "", metrics, is_head, at_ns)
}

/// The response without metrics.
pub fn refusal_response(refusal: HttpRefusal, is_head: bool, at_ns: i128) -> Vec<u8> {
    let (status, field, body) = match refusal {
        HttpRefusal::Malformed => {
            ("400 Bad Request", "", "this is no request of HTTP/1.1: send GET /metrics")
        }
        HttpRefusal::TooLarge => (
            "431 Request Header Fields Too Large",
            "",
            "the head of the request is too large: send less than 8 KiB",
        ),
        HttpRefusal::NotFound => ("404 Not Found", "", "there is nothing here: metrics are at /metrics"),
        HttpRefusal::Method => {
            ("405 Method Not Allowed", "Allow: GET, HEAD\r\n", "metrics can only be read: send GET /metrics")
        }
        HttpRefusal::NoNumbers => (
            "503 Service Unavailable",
            "Retry-After: 5\r\n",
            "the daemon is too busy, or starting: try again, and look at its log",
        ),
    };
    response(status, TEXT_TYPE, field, format!("{body}\n").as_bytes(), is_head, at_ns)
}

fn response(
    status: &str,
    content_type: &str,
    field: &str,
    body: &[u8],
    is_head: bool,
    at_ns: i128,
) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nDate: {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{field}Connection: close\r\n\r\n",
        date(at_ns),
        body.len()
    );
    let mut bytes = head.into_bytes();
    if !is_head {
        bytes.extend_from_slice(body);
    }
    bytes
}

/// A time as HTTP writes it.
fn date(at_ns: i128) -> String {
    let at = Timestamp::from_nanosecond(at_ns).unwrap_or_default();
    DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> HttpRequest {
        HttpRequest::parse(text.as_bytes(), 0).unwrap_or_else(|| panic!("{text:?} has an end"))
    }

    #[test]
    fn get_and_head_of_the_metrics_are_answered_and_nothing_else() {
        use HttpRefusal::{Malformed, Method, NotFound};
        let cases = [
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", Ok(())),
            ("GET /metrics?x=1 HTTP/1.1\r\nhOST: a:9431\r\nAccept: */*\r\n\r\n", Ok(())),
            ("GET http://127.0.0.1:9431/metrics HTTP/1.1\r\nHost: a\r\n\r\n", Ok(())),
            ("HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n", Ok(())),
            ("GET /metrics HTTP/1.0\r\n\r\n", Ok(())),
            ("\r\nGET /metrics HTTP/1.0\n\n", Ok(())),
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\nGET /metrics HTTP/1.1\r\n", Ok(())),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(NotFound)),
            ("GET /metrics/ HTTP/1.1\r\nHost: a\r\n\r\n", Err(NotFound)),
            ("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", Err(NotFound)),
            ("PRI * HTTP/1.1\r\nHost: a\r\n\r\n", Err(NotFound)),
            ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", Err(NotFound)),
            ("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", Err(Method)),
            ("get /metrics HTTP/1.1\r\nHost: a\r\n\r\n", Err(Method)),
            ("GET /metrics HTTP/1.1\r\n\r\n", Err(Malformed)),
            ("GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Err(Malformed)),
            ("GET /metrics HTTP/2.0\r\nHost: a\r\n\r\n", Err(Malformed)),
            ("GET /metrics\r\n\r\n", Err(Malformed)),
            ("GET /metrics HTTP/1.1\r\nHost : a\r\n\r\n", Err(Malformed)),
            ("\u{16}\u{3}\u{1}\0\n\n", Err(Malformed)),
            ("\r\n\r\n", Err(Malformed)),
        ];
        for (text, wants) in cases {
            assert_eq!(parsed(text).wants, wants, "{text:?}");
        }
        assert!(
            parsed("HEAD /metrics HTTP/1.0\r\n\r\n").is_head && parsed("HEAD / HTTP/1.0\r\n\r\n").is_head
        );
        assert!(!parsed("GET /metrics HTTP/1.0\r\n\r\n").is_head);
    }

    #[test]
    fn a_head_that_comes_byte_by_byte_is_parsed_at_its_end() {
        for text in [
            "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /metrics HTTP/1.0\n\n",
            "GET /metrics HTTP/1.0\r\n\n",
        ] {
            let bytes = text.as_bytes();
            for end in 0..bytes.len() {
                assert_eq!(
                    HttpRequest::parse(&bytes[..end], end.saturating_sub(1)),
                    None,
                    "{end} of {text:?}"
                );
            }
            let request = HttpRequest::parse(bytes, bytes.len() - 1);
            assert_eq!(request.map(|request| request.wants), Some(Ok(())), "{text:?}");
        }
    }

    #[test]
    fn a_head_has_bounds() {
        let long = "x".repeat(HEAD_BYTES_MAX);
        assert_eq!(HttpRequest::parse(&long.as_bytes()[1..], 0), None);
        assert_eq!(parsed(&long).wants, Err(HttpRefusal::TooLarge));
        let fields =
            |count: usize| format!("GET /metrics HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(count));
        assert_eq!(parsed(&fields(FIELDS_MAX - 1)).wants, Ok(()));
        assert_eq!(parsed(&fields(FIELDS_MAX)).wants, Err(HttpRefusal::TooLarge));
    }

    #[test]
    fn a_response_has_its_length_its_type_and_its_date() {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let at_ns = 784_111_777_000_000_000;
        let head = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain; version=0.0.4; \
                    charset=utf-8\r\nContent-Length: 4\r\nConnection: close\r\n\r\n";
        assert_eq!(text(metrics_response(b"a 1\n", false, at_ns)), format!("{head}a 1\n"));
        assert_eq!(text(metrics_response(b"a 1\n", true, at_ns)), head);
        let refused = text(refusal_response(HttpRefusal::Method, false, at_ns));
        assert!(
            refused.starts_with("HTTP/1.1 405 ") && refused.contains("\r\nAllow: GET, HEAD\r\n"),
            "{refused}"
        );
        for refusal in
            [HttpRefusal::Malformed, HttpRefusal::TooLarge, HttpRefusal::NotFound, HttpRefusal::NoNumbers]
        {
            let refused = text(refusal_response(refusal, false, at_ns));
            let (head, body) = refused.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{refused}");
            assert!(body.ends_with('\n') && body.contains(':'), "it ends with the next step: {refused}");
        }
    }
}
