//! The commands of docs/guide.md, run as they stand there, in scenes like those of the guide.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Stdio;

use observer_harness::fixture::{PATIENCE, PuppetOptions};
use observer_harness::observe::CommandResult;
use observer_harness::{Pty, Puppet, Verb, eventually};

use crate::Scene;
use crate::waits::{ended, waiting};

const GUIDE: &str = include_str!("../../../docs/guide.md");
/// The user whom the guide calls mallory.
const MALLORY: u32 = 3002;

/// A command of the guide, and what it prints there.
#[derive(Debug)]
struct Example {
    command: &'static str,
    output: Vec<&'static str>,
}

/// The blocks of the guide that show commands with their output.
fn blocks() -> Vec<Vec<Example>> {
    let mut blocks: Vec<Vec<Example>> = Vec::new();
    let mut is_in_block = false;
    for line in GUIDE.lines() {
        let code = line.strip_prefix("    ");
        let command = code.and_then(|code| code.strip_prefix("$ "));
        if let Some(command) = command {
            if !is_in_block {
                blocks.push(Vec::new());
            }
            let block = blocks.last_mut().expect("a block");
            block.push(Example { command, output: Vec::new() });
        } else if let Some(code) = code.filter(|_| is_in_block) {
            let example = blocks.last_mut().and_then(|block| block.last_mut());
            example.expect("a command above its output").output.push(code);
        }
        is_in_block = command.is_some() || (is_in_block && code.is_some());
    }
    blocks
}

/// The guide's block whose first command is `first`.
fn block(first: &str) -> Vec<Example> {
    let is_meant = |block: &Vec<Example>| block.first().is_some_and(|example| example.command == first);
    let found = blocks().into_iter().find(is_meant);
    found.unwrap_or_else(|| panic!("docs/guide.md shows `{first}`: adapt this test to what it shows instead"))
}

/// What the guide's words stand for in a scene.
struct Meaning(Vec<(&'static str, String)>);

impl Meaning {
    fn of(&self, text: &str) -> String {
        // A meaning may contain another word.
        let mark = |at: usize| format!("\0{at}\0");
        let words = self.0.iter().enumerate();
        let marked =
            words.clone().fold(text.to_owned(), |text, (at, (word, _))| text.replace(word, &mark(at)));
        words.fold(marked, |text, (at, (_, meaning))| text.replace(&mark(at), meaning))
    }

    /// Asserts that a command printed what the guide shows. How long a process lived is another span each time, and what
    /// processes hold another size.
    #[track_caller]
    fn assert_printed(&self, example: &Example, result: &CommandResult) {
        let shape = |line: &str| match line.split_once("lived ") {
            None if line.contains("processes, ") => match line.rsplit_once(", ") {
                Some((before, size)) if is_size(size) => format!("{before}, SIZE"),
                _ => line.to_owned(),
            },
            Some((before, span)) => {
                let units: String = span.chars().filter(|c| !c.is_ascii_digit() && *c != ' ').collect();
                assert!(
                    !units.is_empty() && units.chars().all(|c| "dhms".contains(c)),
                    "{span} is a span of time"
                );
                format!("{before}lived SPAN")
            }
            None => line.to_owned(),
        };
        let printed = format!("{}{}", result.text(), result.stderr);
        let expected: Vec<String> = example.output.iter().map(|line| shape(&self.of(line))).collect();
        let found: Vec<String> = printed.lines().map(shape).collect();
        assert_eq!(found, expected, "{example:#?}");
    }

    /// Asserts that a command printed the table that the guide shows. How wide its columns are depends on what is in them.
    #[track_caller]
    fn assert_lists(&self, scene: &Scene, example: &Example) {
        let command = self.of(example.command);
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        let result = scene.daemon.observer(&words);
        let expected: Vec<_> = example.output.iter().map(|line| cells(&self.of(line))).collect();
        assert_eq!(result.text().lines().map(cells).collect::<Vec<_>>(), expected, "{result:?}");
    }

    #[track_caller]
    fn assert_prints(&self, scene: &Scene, example: &Example) -> CommandResult {
        let command = self.of(example.command);
        let words: Vec<&str> = command.split_whitespace().collect();
        let ["observer", args @ ..] = &words[..] else { panic!("a command of observer: {example:?}") };
        let result = scene.daemon.observer(args);
        self.assert_printed(example, &result);
        result
    }
}

fn is_size(text: &str) -> bool {
    text.ends_with(" GB") || text.ends_with(" MB")
}

/// This process, as observer names a sender.
fn this() -> String {
    let comm = std::fs::read_to_string("/proc/self/comm").expect("the own name");
    format!("{} ({})", comm.trim_end(), std::process::id())
}

fn cast(scene: &Scene, home: &Path, pty: &Pty, program: &str, uid: Option<u32>) -> Puppet {
    let program = Some(scene.fixture.program(program));
    let dir = Some(home.to_owned());
    scene.fixture.cast(&PuppetOptions { program, dir, pty: Some(pty), uid, ..PuppetOptions::default() })
}

#[test]
fn every_command_that_the_guide_shows_is_run_here() {
    let blocks = blocks();
    let first: Vec<_> =
        blocks.iter().flat_map(|block| block.first()).map(|example| example.command).collect();
    let run = [
        "observer list --state left",
        "observer list /srv/agents/alpha",
        "observer pid alpha",
        "observer explain 4712",
        "observer list --state detached",
        "observer list --ended",
        "observer wait alpha --timeout 2h",
        "observer wait alpha --left",
        "observer signal alpha KILL --tree --dry-run",
        "observer leftovers",
    ];
    assert_eq!(first, run, "run what docs/guide.md shows in a test of this file");
}

#[test]
fn a_foreign_session_is_answered_as_the_guide_says() {
    let (scene, pty) = (Scene::new(""), Pty::open());
    let home = scene.home("alpha");
    let stranger = cast(&scene, &home, &pty, "agent", Some(MALLORY));
    eventually("its owner is known", PATIENCE, || {
        let row = scene.session(&home);
        let is_foreign = row.as_ref().and_then(|row| row.get("foreign")) == Some(&true.into());
        if is_foreign { Ok(()) } else { Err(format!("{row:?}")) }
    });
    let meaning = Meaning(vec![
        ("/srv/agents/alpha", home.display().to_string()),
        ("mallory", MALLORY.to_string()),
        ("4711", stranger.pid.to_string()),
    ]);
    let [plain, of_mallory] = &block("observer pid alpha")[..] else { panic!("two commands") };
    assert_eq!(meaning.assert_prints(&scene, plain).code, Some(3));
    assert_eq!(meaning.assert_prints(&scene, of_mallory).code, Some(0));
}

#[test]
fn a_helper_is_explained_as_the_guide_says() {
    let (scene, pty) = (Scene::new(""), Pty::open());
    let home = scene.home("alpha");
    let mut agent = cast(&scene, &home, &pty, "claude", None);
    let (mut helper, _) = agent.bears(&scene.fixture, Verb::Fork, &[]);
    let (tail, token) = (scene.fixture.program("tail"), scene.fixture.token());
    helper.request(Verb::Exec, &[tail.as_os_str().as_bytes(), token.as_bytes()]);
    let helper = scene.fixture.meet(&token);
    let tty = pty.path.strip_prefix("/dev").expect("a device").display().to_string();
    let pids = [("4711", agent.pid.to_string()), ("4712", helper.pid.to_string())];
    let meaning = Meaning(pids.into_iter().chain([("pts/3", tty)]).collect());
    let [example] = &block("observer explain 4712")[..] else { panic!("one command") };
    assert_eq!(meaning.assert_prints(&scene, example).code, Some(0));
}

/// The cells of a table's line. How long something took is another span each time.
fn cells(line: &str) -> Vec<String> {
    let is_span = |cell: &str| {
        cell.split(' ').all(|part| part.trim_end_matches(['d', 'h', 'm', 's']).parse::<u32>().is_ok())
    };
    let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
    cells
        .map(|cell| if cell.ends_with(['h', 'm', 's']) && is_span(cell) { "SPAN" } else { cell }.to_owned())
        .collect()
}

#[test]
fn sessions_are_listed_as_the_guide_says() {
    let (scene, ptys) = (Scene::new(""), [Pty::open(), Pty::open()]);
    let homes = ["alpha", "beta"].map(|name| scene.home(name));
    let alpha = cast(&scene, &homes[0], &ptys[0], "claude", None);
    let beta = cast(&scene, &homes[1], &ptys[1], "codex", None);
    let meaning = Meaning(vec![
        ("/srv/agents/alpha", homes[0].display().to_string()),
        ("/srv/agents/beta", homes[1].display().to_string()),
        ("4711", alpha.pid.to_string()),
        ("4712", beta.pid.to_string()),
        ("pts/3", ptys[0].tty()),
        ("pts/4", ptys[1].tty()),
    ]);
    let pid = beta.pid;
    beta.killed(libc::SIGKILL);
    scene.watch.wait_for("its end", |frame| frame.is("session_ended", pid));
    let [example] = &block("observer list --ended")[..] else { panic!("one command") };
    meaning.assert_lists(&scene, example);
}

#[test]
fn two_programs_in_one_home_are_listed_and_chosen_as_the_guide_says() {
    let (scene, ptys) = (Scene::new("instances = \"each\""), [Pty::open(), Pty::open()]);
    let home = scene.home("alpha");
    let first = cast(&scene, &home, &ptys[0], "claude", None);
    scene.wait_for_frame("session_started", &home);
    let second = cast(&scene, &home, &ptys[1], "codex", None);
    scene.watch.wait_for("the second", |frame| frame.is("session_started", second.pid));
    let meaning = Meaning(vec![
        ("/srv/agents/alpha", home.display().to_string()),
        ("4711", first.pid.to_string()),
        ("4712", second.pid.to_string()),
        ("pts/3", ptys[0].tty()),
        ("pts/4", ptys[1].tty()),
    ]);
    let [list, several, one] = &block("observer list /srv/agents/alpha")[..] else {
        panic!("three commands")
    };
    meaning.assert_lists(&scene, list);
    assert_eq!(meaning.assert_prints(&scene, several).code, Some(3));
    assert_eq!(meaning.assert_prints(&scene, one).code, Some(0));
}

#[test]
fn a_session_that_left_its_home_is_listed_as_the_guide_says() {
    let (scene, pty) = (Scene::new(""), Pty::open());
    let (home, elsewhere) = (scene.home("alpha"), scene.fixture.mkdir("elsewhere"));
    let mut agent = cast(&scene, &home, &pty, "claude", None);
    let meaning = Meaning(vec![
        ("/srv/agents/alpha", home.display().to_string()),
        ("/srv/x", elsewhere.display().to_string()),
        ("4711", agent.pid.to_string()),
        ("pts/3", pty.tty()),
    ]);
    agent.chdir(&elsewhere);
    let [example] = &block("observer list --state left")[..] else { panic!("one command") };
    meaning.assert_lists(&scene, example);
}

#[test]
fn a_session_whose_terminal_is_gone_is_listed_as_the_guide_says() {
    let (scene, pty) = (Scene::new(""), Pty::open());
    let home = scene.home("alpha");
    let mut agent = cast(&scene, &home, &pty, "claude", None);
    let meaning =
        Meaning(vec![("/srv/agents/alpha", home.display().to_string()), ("4711", agent.pid.to_string())]);
    agent.does(Verb::Ignore, &[libc::SIGHUP.to_string().as_bytes()]);
    pty.hang_up(agent.pid);
    let [example] = &block("observer list --state detached")[..] else { panic!("one command") };
    meaning.assert_lists(&scene, example);
}

#[test]
fn a_wait_ends_as_the_guide_says() {
    let (scene, pty) = (Scene::new(""), Pty::open());
    let agent = cast(&scene, &scene.home("alpha"), &pty, "claude", None);
    let meaning = Meaning(vec![("bash (900)", this()), ("4711", agent.pid.to_string())]);
    let [wait, code] = &block("observer wait alpha --timeout 2h")[..] else { panic!("two commands") };
    let words: Vec<&str> = wait.command.split_whitespace().skip(1).collect();
    let child = waiting(&scene, &words);
    agent.killed(libc::SIGKILL);
    let result = ended(child);
    meaning.assert_printed(wait, &result);
    assert_eq!(code.command, "echo $?");
    assert_eq!(
        result.code.map(|code| code.to_string()).as_deref(),
        code.output.first().copied(),
        "{result:?}"
    );
}

#[test]
fn signals_are_sent_as_the_guide_says() {
    let (scene, pty) = (Scene::new(""), Pty::open());
    let mut agent = cast(&scene, &scene.home("alpha"), &pty, "claude", None);
    let (mut child, _) = agent.bears(&scene.fixture, Verb::Fork, &[]);
    let key = |pid: u32| {
        let row = scene.daemon.row(pid).expect("a row");
        row.get("key").and_then(serde_json::Value::as_str).expect("a key").to_owned()
    };
    let mut words = vec![
        ("7f3e90ab-4711-1a2b3c4d5e", key(agent.pid)),
        ("7f3e90ab-4720-1a2b5e6f70", key(child.pid)),
        ("4711", agent.pid.to_string()),
        ("4720", child.pid.to_string()),
    ];
    eventually("the session", PATIENCE, || {
        let answer = scene.daemon.observer(&["pid", "alpha"]);
        if answer.code == Some(0) { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    let [tree, end] = &block("observer signal alpha KILL --tree --dry-run")[..] else {
        panic!("two commands")
    };
    Meaning(words.clone()).assert_prints(&scene, tree);
    // What still ends while the session does may count as left.
    let child_pid = child.pid.to_string();
    child.request(Verb::Exit, &[b"0"]);
    agent.does(Verb::Wait, &[child_pid.as_bytes()]);
    let arguments: Vec<&str> = end.command.split_whitespace().skip(1).collect();
    let mut command = scene.daemon.command(&arguments);
    let command =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start observer signal");
    words.insert(0, ("observer (5200)", format!("observer ({})", command.id())));
    let result = ended(command);
    Meaning(words).assert_printed(end, &result);
}

#[test]
fn leftovers_are_listed_and_signalled_as_the_guide_says() {
    let (scene, pty) = (Scene::new("program = \"claude\""), Pty::open());
    let home = scene.home("alpha");
    let mut agent = cast(&scene, &home, &pty, "claude", None);
    scene.wait_for_frame("session_started", &home);
    let mut server = |program: &str, bytes: &[u8]| {
        let (mut server, _) = agent.bears(&scene.fixture, Verb::Fork, &[]);
        // The end of the terminal's leader does not concern it.
        server.does(Verb::Setsid, &[]);
        let (program, token) = (scene.fixture.program(program), scene.fixture.token());
        server.request(Verb::Exec, &[program.as_os_str().as_bytes(), token.as_bytes()]);
        // It is the same process, which ends with its last puppet.
        std::mem::forget(server);
        let mut server = scene.fixture.meet(&token);
        server.does(Verb::TakesMemory, &[bytes]);
        server
    };
    let large = server("tsserver", b"33554432");
    let small = server("mcp-server", b"8388608");
    let [wait] = &block("observer wait alpha --left")[..] else { panic!("one command") };
    let words: Vec<&str> = wait.command.split_whitespace().skip(1).collect();
    let waiter = waiting(&scene, &words);
    let by_this = ("bash (900)", this());
    let meaning = Meaning(vec![by_this, ("4711", agent.pid.to_string())]);
    agent.killed(libc::SIGKILL);
    meaning.assert_printed(wait, &ended(waiter));
    let key = |pid: u32| {
        let row = scene.daemon.row(pid).expect("a row");
        row.get("key").and_then(serde_json::Value::as_str).expect("a key").to_owned()
    };
    let meaning = Meaning(vec![
        ("7f3e90ab-4733-1a2b6f8091", key(large.pid)),
        ("7f3e90ab-4790-1a2c0a1b2c", key(small.pid)),
        ("4733", large.pid.to_string()),
        ("4790", small.pid.to_string()),
    ]);
    let [list, signal] = &block("observer leftovers")[..] else { panic!("two commands") };
    let result = scene.daemon.observer(&["leftovers"]);
    let shape = |line: &str| -> Vec<String> {
        cells(line).into_iter().map(|cell| if is_size(&cell) { "SIZE".into() } else { cell }).collect()
    };
    let expected: Vec<_> = list.output.iter().map(|line| shape(&meaning.of(line))).collect();
    assert_eq!(result.text().lines().map(shape).collect::<Vec<_>>(), expected, "{result:?}");
    assert_eq!(meaning.assert_prints(&scene, signal).code, Some(0));
    assert!(large.is_gone_within(PATIENCE) && small.is_gone_within(PATIENCE));
}

#[test]
fn the_guides_commands_about_rules_work() {
    let scene = Scene::new("");
    let file = scene.daemon.dir().join("observer.toml").display().to_string();
    let commands = GUIDE.lines().filter_map(|line| line.strip_prefix("    observer "));
    let mut count = 0;
    for command in commands.filter(|it| ["rules ", "check-config "].iter().any(|word| it.starts_with(word))) {
        count += 1;
        let (words, _) = command.split_once('#').unwrap_or((command, ""));
        let words = words.replace("FILE", &file);
        let args: Vec<&str> = words.split_whitespace().collect();
        let result = scene.daemon.observer(&args);
        assert_eq!(result.code, Some(0), "{result:?}");
    }
    assert_eq!(count, 3, "defaults, check-config, try");
}
