//! Scrapes of every kind, and an event loop that answers from a script.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;

use tokio::io::{DuplexStream, duplex};

use super::*;
use crate::socket::unread::UnreadBudget;

struct Fixture {
    questions: mpsc::Receiver<PendingQuestion>,
    scrapes: Arc<Scrapes>,
    counters: Arc<ScrapeCounters>,
}

const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";

impl Fixture {
    fn new() -> Self {
        let (asked, questions) = mpsc::channel(1);
        let counters = Arc::new(ScrapeCounters::default());
        let client = UnreadBudget::default().client(0);
        let source = NumbersSource { questions: asked, client, counters: Arc::clone(&counters) };
        Self { questions, scrapes: Arc::new(Scrapes::new(source)), counters }
    }

    /// A connection that is served.
    fn connect(&self) -> DuplexStream {
        let (client, server) = duplex(1 << 20);
        let scrapes = Arc::clone(&self.scrapes);
        tokio::spawn(async move { scrapes.serve(scrapes.accepted(), server).await });
        client
    }

    /// A connection that has sent `bytes`.
    async fn sends(&self, bytes: &[u8]) -> DuplexStream {
        let mut client = self.connect();
        client.write_all(bytes).await.unwrap();
        client
    }

    async fn answers(&mut self, uptime: u64) {
        let asked = self.questions.recv().await.unwrap();
        assert!(matches!(asked.question, Question::Metrics), "which the loop answers with a line");
        let status = StatusAnswer { uptime, ..StatusAnswer::default() };
        // Who asked may have left.
        let _ = asked.reply.send(Answer::Line(serde_json::to_vec(&status).unwrap().into()));
    }

    fn counts(&self) -> [u64; 3] {
        let ScrapeCounters { answered, refused, cut_off } = &*self.counters;
        [answered, refused, cut_off].map(|counter| counter.load(Ordering::Relaxed))
    }
}

/// What comes until the connection ends.
async fn response(mut client: impl AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    timeout(Duration::from_secs(60), client.read_to_end(&mut bytes)).await.expect("it ends").unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_question_answers_all_who_ask_within_a_second() {
    let mut fixture = Fixture::new();
    let (one, other) = (fixture.sends(REQUEST).await, fixture.sends(REQUEST).await);
    fixture.answers(7).await;
    for text in [response(one).await, response(other).await, response(fixture.sends(REQUEST).await).await] {
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.contains("\nobserver_uptime_seconds 7.0\n"), "{text}");
    }
    assert!(fixture.questions.try_recv().is_err(), "nothing more was asked");
    tokio::time::advance(SHARED_FOR).await;
    let later = fixture.sends(REQUEST).await;
    fixture.answers(8).await;
    assert!(response(later).await.contains("\nobserver_uptime_seconds 8.0\n"));
    assert_eq!(fixture.counts(), [4, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_does_not_answer_has_one_question_and_clients_get_an_error() {
    let mut fixture = Fixture::new();
    for _ in 0..2 {
        let text = response(fixture.sends(REQUEST).await).await;
        assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    }
    // The question is answered late, and that serves the next one.
    fixture.answers(9).await;
    let text = response(fixture.sends(REQUEST).await).await;
    assert!(text.contains("\nobserver_uptime_seconds 9.0\n"), "{text}");
    assert!(fixture.questions.try_recv().is_err(), "nothing more was asked");
    drop(std::mem::replace(&mut fixture.questions, mpsc::channel(1).1));
    tokio::time::advance(SHARED_FOR).await;
    assert!(response(fixture.sends(REQUEST).await).await.starts_with("HTTP/1.1 503 "), "the loop has ended");
    assert_eq!(fixture.counts(), [1, 3, 0]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_question_of_another_waits_no_longer_than_that_one() {
    let fixture = Fixture::new();
    let _first = fixture.sends(REQUEST).await;
    tokio::time::sleep(NUMBERS_MAX / 2).await;
    let (second, third) = (fixture.sends(REQUEST).await, fixture.sends(REQUEST).await);
    let before = Instant::now();
    for text in [response(second).await, response(third).await] {
        assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    }
    assert_eq!(before.elapsed(), NUMBERS_MAX);
    assert_eq!(fixture.counts(), [0, 3, 0]);
}

#[tokio::test(start_paused = true)]
async fn who_sends_nothing_or_takes_nothing_is_let_go_of() {
    let mut fixture = Fixture::new();
    for bytes in [&b""[..], b"GET /met", b"GET /metrics HTTP/1.1\r\nHost: a\r\n"] {
        let before = Instant::now();
        assert_eq!(response(fixture.sends(bytes).await).await, "");
        assert_eq!(before.elapsed(), SCRAPE_MAX, "{bytes:?}");
    }
    assert_eq!(fixture.counts(), [0, 0, 3]);
    let (mut client, server) = duplex(64);
    let scrapes = Arc::clone(&fixture.scrapes);
    let served = tokio::spawn(async move { scrapes.serve(scrapes.accepted(), server).await });
    client.write_all(REQUEST).await.unwrap();
    fixture.answers(1).await;
    served.await.unwrap();
    assert_eq!(fixture.counts(), [0, 0, 4], "it did not take the response");
    let mut client = fixture.connect();
    client.shutdown().await.unwrap();
    assert_eq!(response(client).await, "");
    assert_eq!(fixture.counts(), [0, 0, 5]);
}

#[tokio::test(start_paused = true)]
async fn who_sends_too_much_gets_the_reason() {
    let fixture = Fixture::new();
    let text = response(fixture.sends(&[b'x'; HEAD_BYTES_MAX + 1000]).await).await;
    assert!(text.starts_with("HTTP/1.1 431 "), "{text}");
    assert_eq!(fixture.counts(), [0, 1, 0]);
    let text = response(fixture.sends(b"DELETE /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await).await;
    assert!(text.starts_with("HTTP/1.1 405 ") && text.contains("Allow: GET, HEAD"), "{text}");
}

/// The address of a listener that serves from a fixture, and the fixture.
fn served(dir: &Path) -> (std::path::PathBuf, Fixture, tokio::task::JoinHandle<()>) {
    let (path, fixture) = (dir.join("m.sock"), Fixture::new());
    let (address, scrapes) = (MetricsAddress::Unix(path.clone()), Arc::clone(&fixture.scrapes));
    let task = tokio::spawn(async move { listen(&address, scrapes).await });
    (path, fixture, task)
}

async fn connected(path: &Path) -> UnixStream {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match UnixStream::connect(path).await {
            Ok(stream) => return stream,
            Err(error) if Instant::now() > deadline => panic!("{error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

#[tokio::test]
async fn many_who_send_nothing_keep_nobody_from_being_served() {
    let dir = tempfile::tempdir().unwrap();
    let (path, mut fixture, task) = served(dir.path());
    let mut idle = Vec::new();
    for _ in 0..2 * SCRAPES_MAX {
        idle.push(connected(&path).await);
    }
    let mut client = connected(&path).await;
    client.write_all(REQUEST).await.unwrap();
    fixture.answers(3).await;
    let text = response(client).await;
    assert!(text.contains("\nobserver_uptime_seconds 3.0\n"), "{text}");
    let [_, _, cut_off] = fixture.counts();
    assert!(cut_off > SCRAPES_MAX as u64, "{cut_off} of those that were first");
    let mut first = idle.swap_remove(0);
    let ended = first.read_u8().await.map_err(|error| error.kind());
    assert!(matches!(ended, Err(ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset)), "{ended:?}");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    task.abort();
    let _ = task.await;
    assert!(!path.exists(), "the path is removed at the end");
}

#[tokio::test(start_paused = true)]
async fn an_address_in_use_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let other = std::os::unix::net::UnixListener::bind(dir.path().join("m.sock")).unwrap();
    let (path, mut fixture, _task) = served(dir.path());
    tokio::time::sleep(LISTEN_RETRY / 2).await;
    drop(other);
    tokio::time::sleep(LISTEN_RETRY).await;
    let mut client = connected(&path).await;
    client.write_all(REQUEST).await.unwrap();
    fixture.answers(4).await;
    assert!(response(client).await.contains("\nobserver_uptime_seconds 4.0\n"));
}
