//! The server with clients of every kind, and an event loop that answers from a script.

use std::os::unix::net::UnixListener as StdListener;
use std::path::PathBuf;

use tokio::io::{AsyncBufReadExt, BufReader};

use super::*;
use crate::socket::hub::{FrameScope, WatchHub};

struct Fixture {
    _dir: tempfile::TempDir,
    path: PathBuf,
    questions: mpsc::Receiver<PendingQuestion>,
    counters: Arc<ClientCounters>,
    budget: UnreadBudget,
}

fn start() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("o.sock");
    let listener = StdListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let (asked, questions) = mpsc::channel(QUESTIONS_MAX);
    let counters = Arc::new(ClientCounters::default());
    let budget = UnreadBudget::default();
    let hello = Hello { observer: "0".into(), protocol: 1, boot_id: "b".into(), pid: 1 };
    let service = SocketService {
        hello,
        policy: PeerPolicy { group: None },
        questions: asked,
        counters: Arc::clone(&counters),
        budget: budget.clone(),
    };
    tokio::spawn(serve(UnixListener::from_std(listener).unwrap(), service));
    Fixture { _dir: dir, path, questions, counters, budget }
}

impl Fixture {
    async fn connect(&self) -> BufReader<UnixStream> {
        let mut client = BufReader::new(UnixStream::connect(&self.path).await.unwrap());
        assert!(read(&mut client).await.starts_with("{\"observer\":\"0\",\"protocol\":1"));
        client
    }

    /// Takes the next question and answers it with `line`.
    async fn answer(&mut self, line: &'static [u8]) -> Question {
        let asked = self.questions.recv().await.unwrap();
        asked.reply.send(Answer::Line(Bytes::from_static(line))).unwrap();
        asked.question
    }
}

async fn read(client: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    timeout(Duration::from_secs(20), client.read_line(&mut line)).await.expect("a line in time").unwrap();
    line
}

async fn send(client: &mut BufReader<UnixStream>, bytes: &[u8]) {
    client.get_mut().write_all(bytes).await.unwrap();
}

#[tokio::test]
async fn questions_reach_the_loop_and_answers_come_back() {
    let mut fixture = start();
    let mut client = fixture.connect().await;
    send(&mut client, b"{\"request\":\"list\",\"ended\":true}\n{\"request\":\"status\"}\n").await;
    assert!(matches!(fixture.answer(b"one\n").await, Question::List { ended: true }));
    assert!(matches!(fixture.answer(b"two\n").await, Question::Status));
    assert_eq!([read(&mut client).await, read(&mut client).await], ["one\n", "two\n"]);
}

#[tokio::test]
async fn a_client_that_sends_garbage_is_dropped_with_the_reason_and_others_are_served() {
    let mut fixture = start();
    let long = format!("{{\"request\":\"watch\",\"glob\":\"\\u001b{}*\"}}\n", "x".repeat(60_000));
    let cases: [(&[u8], &str); 5] = [
        (b"\xff\x00\x1b[2J\n", "bad_request"),
        (b"{\"request\":\"kill\",\"pid\":1}\n", "bad_request"),
        (b"{\"request\":\"watch\",\"glob\":\"[\"}\n", "bad_glob"),
        (long.as_bytes(), "bad_glob"),
        (&[b'x'; 1 << 20], "line_too_long"),
    ];
    for (garbage, code) in cases {
        let mut client = fixture.connect().await;
        // The daemon may close before it has all of it.
        let _ = client.get_mut().write_all(garbage).await;
        let error = read(&mut client).await;
        assert!(error.contains(&format!("\"error\":\"{code}\"")), "{error}");
        assert!(!error.contains('\x1b') && error.len() < 500, "{error}");
        assert_eq!(read(&mut client).await, "", "{code}: dropped");
    }
    assert_eq!(fixture.counters.dropped.load(Ordering::Relaxed), 5);
    let mut client = fixture.connect().await;
    send(&mut client, b"{\"request\":\"processes\"}\r\n").await;
    assert!(matches!(fixture.answer(b"fine\n").await, Question::Processes));
    assert_eq!(read(&mut client).await, "fine\n");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_nothing_is_dropped_with_the_reason() {
    let fixture = start();
    let mut client = fixture.connect().await;
    let mut line = String::new();
    client.read_line(&mut line).await.unwrap();
    assert!(line.contains("\"error\":\"idle\""), "{line}");
    line.clear();
    assert_eq!(client.read_line(&mut line).await.unwrap(), 0);
}

#[tokio::test]
async fn connections_beyond_the_bound_are_refused() {
    let fixture = start();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS_MAX {
        clients.push(fixture.connect().await);
    }
    let mut late = BufReader::new(UnixStream::connect(&fixture.path).await.unwrap());
    assert!(read(&mut late).await.contains("\"error\":\"busy\""));
    drop(clients.pop());
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut again = BufReader::new(UnixStream::connect(&fixture.path).await.unwrap());
        if read(&mut again).await.contains("protocol") {
            break;
        }
        assert!(Instant::now() < deadline, "the place is free again");
        tokio::task::yield_now().await;
    }
}

/// Subscribes whoever asks to watch, with a snapshot of one frame.
async fn subscribe(fixture: &mut Fixture, hub: &mut WatchHub) {
    let asked = fixture.questions.recv().await.unwrap();
    let Question::Watch(filter) = asked.question else { panic!("a watch") };
    hub.subscribe(filter, &asked.client, vec![b"{\"kind\":\"snapshot_begin\"}".to_vec()]);
    asked.reply.send(Answer::Unread).unwrap();
}

#[tokio::test]
async fn a_watch_is_a_snapshot_and_every_change_after_it_numbered() {
    let mut fixture = start();
    let mut hub = WatchHub::default();
    let mut client = fixture.connect().await;
    send(&mut client, b"{\"request\":\"watch\"}\n").await;
    subscribe(&mut fixture, &mut hub).await;
    for n in 0..3 {
        hub.publish(FrameScope::Always, None, |_| Some(format!("{{\"n\":{n}}}").into_bytes()));
    }
    assert_eq!(read(&mut client).await, "{\"seq\":1,\"kind\":\"snapshot_begin\"}\n");
    for n in 0..3 {
        assert_eq!(read(&mut client).await, format!("{{\"seq\":{},\"n\":{n}}}\n", n + 2));
    }
    send(&mut client, b"{\"request\":\"list\"}\n").await;
    assert!(read(&mut client).await.contains("takes no further request"));
}

#[tokio::test]
async fn a_slow_client_gets_a_lagged_frame_and_a_new_snapshot() {
    let mut fixture = start();
    let mut hub = WatchHub::default();
    let mut client = fixture.connect().await;
    send(&mut client, b"{\"request\":\"watch\"}\n").await;
    subscribe(&mut fixture, &mut hub).await;
    let mut published = 0;
    while !hub.is_empty() {
        hub.publish(FrameScope::Always, None, |_| Some(vec![b' '; 1 << 20]));
        published += 1;
        assert!(published < 100_000, "the queue has a bound");
    }
    let mut frames = 0;
    let lagged = loop {
        let line = read(&mut client).await;
        frames += 1;
        assert!(line.starts_with(&format!("{{\"seq\":{frames},")), "{line}");
        if line.contains("\"kind\":\"lagged\"") {
            break line;
        }
    };
    assert!(lagged.contains("\"boottime_ns\":\"") && lagged.contains("\"boot_id\":\"b\""), "{lagged}");
    // Everything up to the frame that found no room, the snapshot and the word itself.
    assert_eq!(frames, published - 1 + 2);
    subscribe(&mut fixture, &mut hub).await;
    let line = read(&mut client).await;
    assert_eq!(line, format!("{{\"seq\":{},\"kind\":\"snapshot_begin\"}}\n", frames + 1));
}

#[tokio::test]
async fn an_answer_is_made_while_it_is_read_and_one_line() {
    let mut fixture = start();
    let mut client = fixture.connect().await;
    send(&mut client, b"{\"request\":\"processes\"}\n{\"request\":\"list\"}\n").await;
    let pieces: Vec<_> = (0..3_000).map(|n| format!("{n:999},").into_bytes()).collect();
    let expected = pieces.concat();
    for last in [b"]}\n".to_vec(), b"{}\n".to_vec()] {
        let asked = fixture.questions.recv().await.unwrap();
        let is_large = matches!(asked.question, Question::Processes);
        let rows = if is_large { pieces.clone() } else { Vec::new() };
        asked.client.give(fixture.budget.hold([rows, vec![last]].concat()));
        asked.reply.send(Answer::Unread).unwrap();
        let line = read(&mut client).await;
        match is_large {
            true => assert!(line.as_bytes().strip_suffix(b"]}\n") == Some(&expected)),
            false => assert_eq!(line, "{}\n"),
        }
    }
}

#[tokio::test]
async fn a_client_that_lost_its_answer_gets_the_reason_if_it_has_nothing_of_it_yet() {
    let mut fixture = start();
    let mut client = fixture.connect().await;
    send(&mut client, b"{\"request\":\"processes\"}\n").await;
    let asked = fixture.questions.recv().await.unwrap();
    asked.client.give(fixture.budget.hold(vec![vec![b' '; 70 << 20]]));
    // Another client of the same user has as much and came later, and another user has little.
    let others = [(0, 80), (1, 1)].map(|(uid, mib)| {
        let other = fixture.budget.client(uid);
        other.give(fixture.budget.hold(vec![vec![b' '; mib << 20]]));
        other
    });
    fixture.budget.keep();
    assert!(others[0].try_next().is_none(), "it has more");
    others[0].give(fixture.budget.hold(vec![vec![b' '; 60 << 20]]));
    fixture.budget.keep();
    asked.reply.send(Answer::Unread).unwrap();
    let line = read(&mut client).await;
    assert!(line.contains("\"error\":\"overloaded\"") && line.contains("try again"), "{line}");
    assert_eq!(read(&mut client).await, "", "dropped");
    assert!(others.iter().all(|other| other.try_next().is_some()));
}

#[test]
fn one_user_leaves_connections_to_others() {
    let (mut free, mut own) = (CLIENTS_MAX, [0; 5]);
    // One after the other takes as many as it gets.
    for own in &mut own {
        while has_room(false, free, *own) {
            *own += 1;
            free -= 1;
        }
    }
    assert_eq!(own, [28, 14, 7, 4, 2]);
    assert!(has_room(true, CLIENTS_RESERVED, CLIENTS_MAX) && !has_room(true, 0, 0));
    assert!(!has_room(false, CLIENTS_RESERVED, 0));
}

#[tokio::test]
async fn a_daemon_that_stops_says_so() {
    let mut fixture = start();
    let mut client = fixture.connect().await;
    send(&mut client, b"{\"request\":\"audit\"}\n").await;
    let asked = fixture.questions.recv().await.unwrap();
    assert!(matches!(asked.question, Question::Audit));
    drop(asked);
    assert!(read(&mut client).await.contains("\"error\":\"stopping\""));
}
