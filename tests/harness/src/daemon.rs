//! A daemon that a test owns: it has a socket, a state directory and a configuration of its own, and ends with its test.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::ptr;
use std::sync::{OnceLock, PoisonError, RwLock, mpsc};
use std::time::{Duration, Instant};

use crate::failure;

/// How long a daemon may take to greet.
const GREETING: Duration = Duration::from_secs(2);
/// How long a daemon may take to attach, read the kernel and listen: in an emulated machine beside another one, half a
/// minute.
pub const READY: Duration = Duration::from_secs(60);
/// How long it may take to end after SIGTERM.
const END: Duration = Duration::from_secs(5);

/// The user id of nobody.
const SERVICE_UID: u32 = 65_534;
/// `AmbientCapabilities=` of packaging/observer.service, as setpriv(1) writes them.
const SERVICE_CAPABILITIES: &str = "+bpf,+perfmon";

/// What a daemon is started with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Text of its configuration file; `None`: no file.
    pub config: Option<String>,
    /// `--ring-bytes`.
    pub ring_bytes: Option<u32>,
    /// `--hooks`; `None`: the value of `OBSERVER_TEST_HOOKS`, or the daemon's own choice.
    pub hooks: Option<&'static str>,
    /// `--state-dir`; `None`: in its own directory.
    pub state_dir: Option<PathBuf>,
    /// Added to its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The directory of the cgroup in which it starts; `None`: that of the test.
    pub cgroup: Option<PathBuf>,
    /// Added to its command line.
    pub flags: Vec<OsString>,
    /// The program; `None`: the product.
    pub program: Option<PathBuf>,
    /// Text of `/etc/machine-id` as it sees the file, in a mount namespace of its own: another host, to the mirror.
    pub machine_id: Option<&'static str>,
    /// Text of `/etc/group` as it sees the file, likewise: who may ask it.
    pub groups: Option<&'static str>,
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    dir: PathBuf,
    child: Option<Child>,
    options: Options,
}

static SHARED: OnceLock<Daemon> = OnceLock::new();

/// Takes the place of the product while it is set.
static OTHER: RwLock<Option<PathBuf>> = RwLock::new(None);

/// Has [`product`] return this program; `None`: the product again.
pub fn use_product(path: Option<PathBuf>) {
    *OTHER.write().unwrap_or_else(PoisonError::into_inner) = path;
}

/// The product's binary: the one of [`use_product`], else `OBSERVER_BIN`, else the workspace's release build.
pub fn product() -> PathBuf {
    if let Some(other) = OTHER.read().unwrap_or_else(PoisonError::into_inner).clone() {
        return other;
    }
    let path = std::env::var_os("OBSERVER_BIN").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release/observer"),
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "{} is missing: build it with `cargo xtask build`, or name another with OBSERVER_BIN",
        path.display()
    );
    path.canonicalize().expect("the product's path")
}

/// Whether a daemon greets at the socket. A daemon that was killed leaves a listener for a moment where a child of it has that
/// open: it takes connections and says nothing.
fn greets(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok_and(|mut stream| {
        stream.set_read_timeout(Some(GREETING)).is_ok() && matches!(stream.read(&mut [0]), Ok(1))
    })
}

impl Daemon {
    /// The one daemon that the tests of this binary share, with the default rule and the default ring.
    pub fn shared() -> &'static Self {
        SHARED.get_or_init(|| {
            failure::require_root();
            let (started, wait) = mpsc::channel();
            // The kernel kills the daemon when the thread that started it ends: so that one waits as long as this
            // process lives, and no daemon outlives its tests.
            std::thread::spawn(move || {
                let _ = started.send(Self::start(&Options::default()));
                loop {
                    std::thread::park();
                }
            });
            let daemon = wait.recv().expect("the shared daemon started (see above why not)");
            // SAFETY: `end_shared` is a plain function that does not unwind.
            unsafe { libc::atexit(end_shared) };
            failure::show_log(daemon.log());
            daemon
        })
    }

    /// Starts a daemon and waits until it answers.
    #[track_caller]
    pub fn start(options: &Options) -> Self {
        Self::try_start(options).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Starts a daemon and waits until it answers; if it ends instead, the error has the end of its log.
    #[track_caller]
    pub fn try_start(options: &Options) -> Result<Self, String> {
        failure::require_root();
        let dir = tempfile::Builder::new()
            .prefix("observer-daemon-")
            .tempdir()
            .expect("a directory for the daemon");
        // The socket's own mode decides who may talk to the daemon.
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("open the daemon's directory to all");
        let mut daemon = Self { dir: dir.keep(), child: None, options: options.clone() };
        daemon.launch();
        daemon.ready()?;
        Ok(daemon)
    }

    /// Starts it again after [`Daemon::kill`] and waits until it answers.
    #[track_caller]
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it was killed before");
        self.launch();
        self.wait_ready();
    }

    fn launch(&mut self) {
        if let Some(text) = &self.options.config {
            fs::write(self.dir.join("observer.toml"), text).expect("write the configuration");
        }
        let log = File::options().create(true).append(true).open(self.log()).expect("open the daemon's log");
        let mut command = self.runner();
        command.args(self.run_args()).stdin(Stdio::null());
        without_cargos_libraries(&mut command);
        command.envs(self.options.environment.iter().cloned());
        command.stdout(log.try_clone().expect("duplicate the log")).stderr(log);
        // SAFETY: one async-signal-safe call between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                Ok(())
            });
        }
        if let Some(cgroup) = &self.options.cgroup {
            join(cgroup, &mut command);
        }
        for (text, at) in
            [(self.options.machine_id, c"/etc/machine-id"), (self.options.groups, c"/etc/group")]
        {
            let Some(text) = text else { continue };
            let file =
                self.dir.join(Path::new(OsStr::from_bytes(at.to_bytes())).file_name().expect("a name"));
            fs::write(&file, text).expect("write the file that it sees");
            sees(&file, at, &mut command);
        }
        self.child = Some(command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}")));
    }

    /// The product; with `OBSERVER_TEST_USER=service` as its service runs it: a user like any, with the unit's
    /// capabilities and no others.
    fn runner(&self) -> Command {
        match std::env::var_os("OBSERVER_TEST_USER") {
            None => Command::new(self.program()),
            Some(user) => {
                assert_eq!(user, "service", "OBSERVER_TEST_USER is not set, or service");
                // It makes its socket and its state there.
                std::os::unix::fs::chown(&self.dir, Some(SERVICE_UID), Some(SERVICE_UID))
                    .expect("give the daemon its directory");
                let mut command = Command::new("setpriv");
                let id = SERVICE_UID.to_string();
                command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--no-new-privs"]);
                for set in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
                    command.arg(format!("{set}=-all,{SERVICE_CAPABILITIES}"));
                }
                command.args(["--pdeathsig", "TERM"]).arg(self.program());
                // `LimitMEMLOCK=` of the unit, which kernels before 5.11 count maps against. Newer ones don't care.
                // SAFETY: one async-signal-safe call between fork and exec, which reads one struct.
                unsafe {
                    command.pre_exec(|| {
                        let limit =
                            libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
                        libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit);
                        Ok(())
                    });
                }
                command
            }
        }
    }

    fn program(&self) -> PathBuf {
        self.options.program.clone().unwrap_or_else(product)
    }

    /// Its program from the next start on; `None`: the product.
    pub fn use_program(&mut self, program: Option<PathBuf>) {
        self.options.program = program;
    }

    fn run_args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["run".into(), "--socket".into(), self.socket().into()];
        args.extend(["--state-dir".into(), self.state_dir().into()]);
        if self.options.config.is_some() {
            args.extend(["--config".into(), self.dir.join("observer.toml").into()]);
        }
        if let Some(bytes) = self.options.ring_bytes {
            args.extend(["--ring-bytes".into(), bytes.to_string().into()]);
        }
        let hooks = self.options.hooks.map(OsString::from);
        if let Some(hooks) = hooks.or_else(|| std::env::var_os("OBSERVER_TEST_HOOKS")) {
            args.extend(["--hooks".into(), hooks]);
        }
        args.extend(self.options.flags.iter().cloned());
        args
    }

    #[track_caller]
    fn wait_ready(&mut self) {
        if let Err(why) = self.ready() {
            panic!("{why}");
        }
    }

    /// Waits until it answers; if it ends instead, the error has the end of its log.
    #[track_caller]
    fn ready(&mut self) -> Result<(), String> {
        let end = Instant::now() + READY;
        loop {
            if greets(&self.socket()) {
                return Ok(());
            }
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                return Err(format!("the daemon ended with {status}:\n{}", failure::last_lines(&self.log())));
            }
            assert!(
                Instant::now() < end,
                "no daemon within {READY:?}:\n{}",
                failure::last_lines(&self.log())
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its configuration from the next start on.
    pub fn configure(&mut self, config: &str) {
        self.options.config = Some(config.to_owned());
    }

    /// Replaces the file of its configuration while it runs.
    pub fn write_config(&mut self, config: &str) {
        self.configure(config);
        fs::write(self.dir.join("observer.toml"), config).expect("write the configuration");
    }

    /// Where its state is.
    pub fn state_dir(&self) -> PathBuf {
        self.options.state_dir.clone().unwrap_or_else(|| self.dir.join("state"))
    }

    /// Path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("observer.sock")
    }

    /// Its own directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it wrote to standard output and error.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Still running: neither ended nor crashed.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Stops it (SIGSTOP) or lets it go on (SIGCONT): a daemon that gets no CPU.
    pub fn starve(&self, starved: bool) {
        self.signal(if starved { libc::SIGSTOP } else { libc::SIGCONT });
    }

    /// SIGHUP: it reads its rules again.
    pub fn hang_up(&self) {
        self.signal(libc::SIGHUP);
    }

    fn signal(&self, signal: i32) {
        // SAFETY: the child is ours and not reaped yet, so its pid is no stranger's.
        let sent = unsafe { libc::kill(self.pid().cast_signed(), signal) };
        assert_eq!(sent, 0, "signal the daemon");
    }

    /// SIGKILL, and its remains reaped.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill the daemon");
            child.wait().expect("reap the daemon");
        }
    }

    /// SIGTERM; its exit code, or `None` where it had to be killed or died by a signal.
    pub fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take()?;
        terminate(&child);
        let end = Instant::now() + END;
        while Instant::now() < end {
            if let Ok(Some(status)) = child.try_wait() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = child.kill();
        let _ = child.wait();
        None
    }

    /// A command of another user, who may ask where the daemon's group `observer` has this number.
    pub fn command_of(&self, uid: u32, group: u32, args: &[impl AsRef<OsStr>]) -> Command {
        // A daemon that runs as a user like any cannot give the socket to a group. It asks the kernel who connects all the same.
        fs::set_permissions(self.socket(), std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .expect("open the socket to all");
        let mut command = self.command(args);
        command.uid(uid).gid(group);
        command
    }

    /// A command line of the product, directed at this daemon.
    pub fn command(&self, args: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(self.program());
        command.args(args).arg("--socket").arg(self.socket()).stdin(Stdio::null());
        without_cargos_libraries(&mut command);
        command
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the end of the daemon's log:\n{}", failure::last_lines(&self.log()));
        }
        self.stop();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Cargo has programs search its own directories for libraries first, for compiler plug-ins. That costs the product time
/// that a user does not pay.
fn without_cargos_libraries(command: &mut Command) {
    command.env_remove("LD_LIBRARY_PATH");
}

/// Has a command run in this cgroup from its start on.
fn join(cgroup: &Path, command: &mut Command) {
    let members = File::options().write(true).open(cgroup.join("cgroup.procs")).expect("open the cgroup");
    // SAFETY: one async-signal-safe call between fork and exec; 0 is the process that writes it.
    unsafe {
        command.pre_exec(move || match libc::write(members.as_raw_fd(), c"0".as_ptr().cast(), 1) {
            1 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

/// Has a command see this file at this path, in a mount namespace of its own.
fn sees(file: &Path, at: &'static CStr, command: &mut Command) {
    let file = CString::new(file.as_os_str().as_bytes()).expect("a path without NUL");
    let mount = |from: *const libc::c_char, to: &CStr, flags| {
        // SAFETY: one system call; the paths end with NUL and outlive it, and the others may be null.
        let result = unsafe { libc::mount(from, to.as_ptr(), ptr::null(), flags, ptr::null()) };
        if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: three async-signal-safe calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            if libc::unshare(libc::CLONE_NEWNS) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            mount(ptr::null(), c"/", libc::MS_REC | libc::MS_PRIVATE)?;
            mount(file.as_ptr(), at, libc::MS_BIND)
        });
    }
}

fn terminate(child: &Child) {
    // SAFETY: the child is ours and not reaped yet, so its pid is no stranger's.
    unsafe { libc::kill(child.id().cast_signed(), libc::SIGTERM) };
}

/// Statics are not dropped: the shared daemon ends here.
extern "C" fn end_shared() {
    let Some(daemon) = SHARED.get() else { return };
    let Some(child) = &daemon.child else { return };
    terminate(child);
    let mut status = 0;
    let end = Instant::now() + END;
    // SAFETY: waits for a child of this process; `status` is valid.
    while unsafe { libc::waitpid(child.id().cast_signed(), &raw mut status, libc::WNOHANG) } == 0 {
        if Instant::now() > end {
            // SAFETY: the child is ours and not reaped yet.
            unsafe { libc::kill(child.id().cast_signed(), libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = fs::remove_dir_all(&daemon.dir);
}

#[cfg(test)]
mod tests {
    use super::SERVICE_CAPABILITIES;

    #[test]
    fn the_service_in_tests_has_the_capabilities_of_the_unit() {
        let unit = include_str!("../../../packaging/observer.service");
        for setting in ["AmbientCapabilities=", "CapabilityBoundingSet="] {
            let names = unit.lines().find_map(|line| line.strip_prefix(setting)).expect("it is set");
            let written = names.split(' ').map(|name| name.to_lowercase().replace("cap_", "+"));
            assert_eq!(written.collect::<Vec<_>>().join(","), SERVICE_CAPABILITIES, "{setting}");
        }
    }
}
