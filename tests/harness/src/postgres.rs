//! A Postgres server that a test owns: from the machine's binaries, below a temporary directory, as a user that is not root
//! (whom Postgres refuses). It ends with the value, however the test ends.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, OnceLock, mpsc};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::observe::CommandResult;

/// Where Debian puts them, the newest first.
const INSTALLED: &str = "/usr/lib/postgresql";
/// Users that it may run as.
const USERS: [&str; 2] = ["postgres", "nobody"];
const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);
/// Longer statements than this come from a file: Linux takes 128 KiB as one argument.
const ARGUMENT_MAX: usize = 100_000;

/// One server.
#[derive(Debug)]
pub struct Server {
    dir: TempDir,
    port: u16,
    settings: Vec<String>,
    postmaster: Option<Child>,
}

/// A cluster that was made once: copied for each server.
static TEMPLATE: OnceLock<TempDir> = OnceLock::new();
/// For all tests of a binary that leave it running.
static SHARED: OnceLock<Server> = OnceLock::new();
static DATABASES: AtomicU32 = AtomicU32::new(0);
static USER: LazyLock<(u32, u32)> = LazyLock::new(|| {
    let id = |flag: &str, user: &str| -> Option<u32> {
        let output = Command::new("id").args([flag, user]).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    USERS
        .iter()
        .find_map(|user| Some((id("-u", user)?, id("-g", user)?)))
        .expect("a user named postgres or nobody")
});

/// A program of Postgres', of the release in `OBSERVER_TEST_POSTGRES` (a directory with `bin`) if that has it.
fn program(name: &str) -> PathBuf {
    let chosen = std::env::var_os("OBSERVER_TEST_POSTGRES").map(|dir| Path::new(&dir).join("bin").join(name));
    if let Some(chosen) = chosen.filter(|chosen| chosen.exists()) {
        return chosen;
    }
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(INSTALLED)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((path.file_name()?.to_str()?.parse().ok()?, path.join("bin").join(name)))
        })
        .filter(|(_, path)| path.exists())
        .collect();
    versions.sort();
    versions.pop().map_or_else(|| name.into(), |(_, path)| path)
}

/// Its command, as the user that the server runs as.
fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } == 0 {
        let (uid, gid) = *USER;
        command.uid(uid).gid(gid);
    }
    command.env("LC_ALL", "C.UTF-8").current_dir("/");
    command
}

/// A directory that the server's user owns.
fn directory() -> TempDir {
    let dir = tempfile::Builder::new().prefix("observer-pg-").tempdir().expect("a directory");
    give(dir.path());
    dir
}

/// Gives a file or directory to the server's user.
fn give(path: &Path) {
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } == 0 {
        let (uid, gid) = *USER;
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("give it away");
    }
}

/// The major version of a program of Postgres'.
fn major(name: &str) -> u32 {
    let version = CommandResult::of(command(name).arg("--version"));
    // postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
    let number =
        version.text().split_whitespace().nth(2).and_then(|number| number.split('.').next()?.parse().ok());
    number.unwrap_or_else(|| panic!("{name}: {version:?}"))
}

/// Says why a client program of Postgres' does not work with the server: it is of an older release, because the server's has none.
pub fn why_unusable(name: &str) -> Option<String> {
    let (client, server) = (major(name), major("postgres"));
    (client < server).then(|| format!("{name} is of Postgres {client}, and does not work with {server}"))
}

#[track_caller]
fn succeeds(command: &mut Command) {
    let result = CommandResult::of(command);
    assert_eq!(result.code, Some(0), "{command:?}: {result:?}");
}

impl Server {
    /// The one that the tests of this binary share.
    pub fn shared() -> &'static Self {
        SHARED.get_or_init(|| {
            let (started, wait) = mpsc::channel();
            // The kernel ends the server when the thread that started it ends: that one waits as long as this process lives.
            std::thread::spawn(move || {
                let _ = started.send(Self::start(&[]));
                loop {
                    std::thread::park();
                }
            });
            let server = wait.recv().expect("the shared server started (see above why not)");
            // SAFETY: a plain function that does not unwind.
            unsafe { libc::atexit(end_shared) };
            server
        })
    }

    /// Starts one with these settings (`name=value`) besides the harness' own, which leave durability to the file system's cache.
    pub fn start(settings: &[&str]) -> Self {
        let template = TEMPLATE.get_or_init(|| {
            let template = directory();
            succeeds(command("initdb").arg("-D").arg(template.path().join("data")).args([
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ]));
            template
        });
        let dir = directory();
        succeeds(command_cp().arg(template.path().join("data")).arg(dir.path().join("data")));
        Self::on(dir, settings)
    }

    fn on(dir: TempDir, settings: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let mut server = Self { dir, port, settings, postmaster: None };
        server.start_again();
        server
    }

    /// Starts it after it was stopped or killed; comes back when it answers.
    pub fn start_again(&mut self) {
        assert!(self.postmaster.is_none(), "it runs");
        let log =
            fs::File::options().create(true).append(true).open(self.dir.path().join("log")).expect("a log");
        let mut postgres = command("postgres");
        postgres.arg("-D").arg(self.data()).arg("-k").arg(self.dir.path());
        let port = format!("port={}", self.port);
        let own = [
            "listen_addresses=127.0.0.1",
            "fsync=off",
            "logging_collector=off",
            "max_connections=100",
            &port,
        ];
        for setting in own.into_iter().chain(self.settings.iter().map(String::as_str)) {
            postgres.args(["-c", setting]);
        }
        end_with_parent(&mut postgres);
        let child = postgres.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0).spawn();
        self.postmaster = Some(child.expect("start postgres: is Postgres 14 or newer installed?"));
        let end = Instant::now() + LIMIT;
        while self.try_psql("postgres", "SELECT 1").code != Some(0) {
            assert!(Instant::now() < end, "the server does not answer: {}", self.log());
            std::thread::sleep(POLL);
        }
    }

    /// One more setting (`name=value`), from the next start on.
    pub fn set(&mut self, setting: &str) {
        self.settings.push(setting.to_owned());
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The directory with its socket.
    pub fn socket_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its port on 127.0.0.1, and its socket's.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A new database.
    pub fn database(&self) -> String {
        let name = format!("db{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// Connection string for its socket.
    pub fn url(&self, database: &str) -> String {
        self.url_as(database, "postgres")
    }

    /// The same for another login.
    pub fn url_as(&self, database: &str, login: &str) -> String {
        format!("host={} port={} user={login} dbname={database}", self.dir.path().display(), self.port)
    }

    /// Connection string for its port on the loopback.
    pub fn url_tcp(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// One of Postgres' own programs.
    pub fn program(&self, name: &str) -> Command {
        Command::new(program(name))
    }

    /// A program that runs as the server's user, and ends with the thread that starts it.
    pub fn beside(&self, program: &str) -> Command {
        let mut program = command(program);
        end_with_parent(&mut program);
        program.stdin(Stdio::null());
        program
    }

    /// psql with this connection string; statements come on its input.
    pub fn psql_command(&self, url: &str) -> Command {
        let mut psql = Command::new(program("psql"));
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", url]);
        psql
    }

    /// Runs the statements and returns their output: rows as lines, columns between `|`. Fails with the error of the server.
    #[track_caller]
    pub fn psql(&self, database: &str, statements: &str) -> String {
        let result = self.try_psql(database, statements);
        assert_eq!(result.code, Some(0), "{statements}: {result:?}");
        result.text().trim_end().to_owned()
    }

    /// Runs the statements, which may fail.
    pub fn try_psql(&self, database: &str, statements: &str) -> CommandResult {
        self.try_psql_as(database, "postgres", statements)
    }

    /// The same as another login.
    pub fn try_psql_as(&self, database: &str, login: &str, statements: &str) -> CommandResult {
        let mut psql = self.psql_command(&self.url_as(database, login));
        if statements.len() < ARGUMENT_MAX {
            return CommandResult::of(psql.args(["-c", statements]));
        }
        let script = tempfile::NamedTempFile::new().expect("a file");
        fs::write(script.path(), statements).expect("write the script");
        CommandResult::of(psql.arg("-f").arg(script.path()))
    }

    /// Another copy of psql that stays: its statements are sent one after the other.
    pub fn session(&self, database: &str, login: &str) -> SqlSession {
        let mut psql = self.psql_command(&self.url_as(database, login));
        let mut child = psql
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start psql");
        let input = child.stdin.take().expect("piped");
        let output = std::io::BufReader::new(child.stdout.take().expect("piped"));
        SqlSession { child, input: Some(input), output }
    }

    /// Ends it as an administrator does (fast shutdown).
    pub fn stop(&mut self) {
        self.end(libc::SIGINT);
    }

    /// Whether it ended by itself; then it can be started again.
    pub fn has_ended(&mut self) -> bool {
        let ended = self
            .postmaster
            .as_mut()
            .is_some_and(|child| child.try_wait().expect("wait for postgres").is_some());
        if ended {
            self.postmaster = None;
        }
        ended
    }

    /// Kills the postmaster and every server process.
    pub fn kill(&mut self) {
        self.signal_all(libc::SIGKILL);
        if let Some(mut child) = self.postmaster.take() {
            child.wait().expect("wait for postgres");
        }
        // Only a clean end removes it.
        let _ = fs::remove_file(self.data().join("postmaster.pid"));
    }

    /// Stops every process where it is: connections stay, and nothing answers.
    pub fn pause(&self) {
        self.signal_all(libc::SIGSTOP);
    }

    /// Lets them go on.
    pub fn resume(&self) {
        self.signal_all(libc::SIGCONT);
    }

    /// A streaming standby of it, from a copy of its data.
    pub fn standby(&self, settings: &[&str]) -> Self {
        let (begin, end) = match major("postgres") {
            ..15 => ("pg_start_backup('standby', true, false)", "pg_stop_backup(false)"),
            _ => ("pg_backup_start('standby', true)", "pg_backup_stop(false)"),
        };
        let dir = directory();
        let data = dir.path().join("data");
        let mut backup = self.session("postgres", "postgres");
        backup.ask(&format!("SELECT {begin}"));
        // Files that go meanwhile are none that it needs.
        CommandResult::of(command_cp().arg(self.data()).arg(&data));
        let label = backup.ask(&format!("SELECT labelfile FROM {end}"));
        let own = [
            ("backup_label", format!("{label}\n")),
            ("standby.signal", String::new()),
            ("postgresql.auto.conf", format!("primary_conninfo = '{}'\n", self.url("postgres"))),
        ];
        for (name, text) in own {
            let path = data.join(name);
            fs::write(&path, text).expect("write into the copy");
            give(&path);
        }
        fs::remove_file(data.join("postmaster.pid")).expect("the server's own");
        Self::on(dir, settings)
    }

    /// Makes a standby a primary; comes back when it is one.
    pub fn promote(&self) {
        self.psql("postgres", "SELECT pg_promote(true, 60)");
    }

    /// A copy of its data as it is on disk; it has to be stopped.
    pub fn copy_of_data(&self) -> TempDir {
        assert!(self.postmaster.is_none(), "it runs");
        let copy = directory();
        succeeds(command_cp().arg(self.data()).arg(copy.path().join("data")));
        copy
    }

    /// Puts a copy in place of its data; it has to be stopped.
    pub fn restore(&self, copy: &TempDir) {
        assert!(self.postmaster.is_none(), "it runs");
        fs::remove_dir_all(self.data()).expect("remove the data");
        succeeds(command_cp().arg(copy.path().join("data")).arg(self.data()));
    }

    fn end(&mut self, signal: i32) {
        let Some(mut child) = self.postmaster.take() else { return };
        // SAFETY: a child that was not waited for.
        unsafe { libc::kill(child.id().cast_signed(), signal) };
        let end = Instant::now() + LIMIT;
        while child.try_wait().expect("wait for postgres").is_none() {
            if Instant::now() > end {
                self.signal_all(libc::SIGKILL);
                let _ = child.kill();
            }
            std::thread::sleep(POLL);
        }
    }

    /// The postmaster leads a process group, and its children lead their own.
    fn signal_all(&self, signal: i32) {
        let Some(postmaster) = &self.postmaster else { return };
        let mut pids = vec![postmaster.id()];
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
            if parent == Some(postmaster.id()) {
                pids.push(pid);
            }
        }
        for pid in pids {
            // SAFETY: the postmaster is our child, and the others are its children, which it reaps only when they end.
            unsafe { libc::kill(pid.cast_signed(), signal) };
        }
    }
}

/// Statics are not dropped.
extern "C" fn end_shared() {
    let dirs = [SHARED.get().map(|server| &server.dir), TEMPLATE.get()];
    if let Some(postmaster) = SHARED.get().and_then(|server| server.postmaster.as_ref()) {
        // SAFETY: a child that nobody waited for.
        unsafe {
            libc::kill(postmaster.id().cast_signed(), libc::SIGQUIT);
            libc::waitpid(postmaster.id().cast_signed(), std::ptr::null_mut(), 0);
        }
    }
    for dir in dirs.into_iter().flatten() {
        let _ = fs::remove_dir_all(dir.path());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.resume();
        self.end(libc::SIGQUIT);
    }
}

/// The kernel ends it when the thread that starts it ends.
fn end_with_parent(command: &mut Command) {
    // SAFETY: one async-signal-safe call between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGQUIT);
            Ok(())
        });
    }
}

fn command_cp() -> Command {
    let mut command = Command::new("cp");
    command.args(["-a", "--reflink=auto"]);
    command
}

/// A connection that stays.
#[derive(Debug)]
pub struct SqlSession {
    child: Child,
    input: Option<std::process::ChildStdin>,
    output: std::io::BufReader<std::process::ChildStdout>,
}

impl SqlSession {
    /// The rows that statements give.
    #[track_caller]
    pub fn ask(&mut self, statements: &str) -> String {
        use std::io::{BufRead as _, Write as _};
        const END: &str = "--end--";
        let input = self.input.as_mut().expect("open");
        writeln!(input, "{statements};\n\\echo {END}").expect("psql listens");
        let mut rows = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).expect("psql answers");
            assert!(read > 0, "psql ended over {statements}");
            match line.trim_end() {
                END => return rows.join("\n"),
                row => rows.push(row.to_owned()),
            }
        }
    }

    /// Sends statements, and does not wait.
    pub fn tell(&mut self, statements: &str) {
        use std::io::Write as _;
        writeln!(self.input.as_mut().expect("open"), "{statements};").expect("psql listens");
    }
}

impl Drop for SqlSession {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
