//! `observer top`
//!
//! The model (`model.rs`) has the state, and view.rs draws it; neither knows a clock, a terminal or a socket. Threads send what
//! they learn as events: `local.rs` or `fleet.rs`, the signals and the keys. The driver below applies one after the other.

mod areas;
mod asked;
mod event;
mod fleet;
mod foot;
mod help;
mod jump;
mod keys;
mod lines;
mod local;
mod model;
mod pane;
mod rows;
mod screen;
mod signals;
mod view;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use crossterm::event::Event;
use nix::sys::signal::Signal;

use self::asked::Asked;
use self::event::{Effect, Scope, TopEvent, TopQuestion, Wake};
use self::jump::OwnMux;
use self::keys::TopKey;
use self::model::{TopModel, TopSetting};
use self::screen::Screen;
use super::database::DatabaseFlags;
use super::exit::{Exit, Failure};
use crate::clock;
use crate::socket::hub::WatchFilter;
use crate::text::bytes::to_one_line;

/// Events that may wait to be applied. A thread that sends more is blocked.
const EVENTS_WAITING_MAX: usize = 1_024;
/// How often spans of time are drawn anew.
const TICK: Duration = Duration::from_secs(1);
/// The shortest time between two frames, except after a key.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// Sessions with their state, cost and last death, as they change. `?` shows the keys, `q` quits. Needs a terminal, and the
/// daemon or a database: exits 4 without one.
#[derive(Args)]
pub struct TopArgs {
    /// Only sessions whose name matches; with a `/` in it, those whose home does
    glob: Option<String>,
    /// All hosts that mirror to this database, without a daemon and without costs
    #[command(flatten)]
    database: DatabaseFlags,
}

impl TopArgs {
    /// 0 when it is quit, 2 where there is no terminal, 4 without a daemon or a database at the start. A signal that ends
    /// it does so when the terminal is as it was.
    pub fn run(self, socket: &Path) -> anyhow::Result<Exit> {
        let usage = |message: String| Failure { exit: Exit::Usage, message };
        let filter = WatchFilter::new(false, self.glob.as_deref()).map_err(usage)?;
        let scope = if self.database.url()?.is_some() { Scope::Fleet } else { Scope::Local };
        screen::check()?;
        let (out, wakes) = sync_channel(EVENTS_WAITING_MAX);
        // Before other threads are started: they leave the signals to one.
        signals::receive(out.clone(), Wake::Signal)?;
        let questions = match scope {
            Scope::Local => local::start(socket, filter, self.glob, &out)?,
            Scope::Fleet => fleet::start(self.database, filter, &out)?,
        };
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let tmux = std::env::var_os("TMUX");
        let own = OwnMux::new(tmux.as_deref().map(OsStr::as_bytes), nix::unistd::geteuid().as_raw());
        let setting = TopSetting { scope, colour: !no_colour, own };
        let screen = Screen::take().context("cannot set the terminal; use `observer list`")?;
        read_input(out.clone())?;
        let model = TopModel::new(setting, screen.size(), clock::realtime_ns());
        let mut driver = Driver { screen, model, questions, out };
        match driver.run(&wakes)? {
            Ended::Quit => Ok(Exit::Found),
            Ended::BySignal(signal) => {
                drop(driver);
                signals::die_of(signal)
            }
        }
    }
}

/// Sends keys and sizes.
fn read_input(out: SyncSender<Wake>) -> anyhow::Result<()> {
    let read = move || {
        loop {
            let wake = screen::next_event().map_or(Wake::InputEnded, Wake::Input);
            let is_end = matches!(wake, Wake::InputEnded);
            if out.send(wake).is_err() || is_end {
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("keys".into()).spawn(read);
    thread.map(drop).context("cannot start a thread; see `ulimit -u`")
}

/// Why the program ends.
enum Ended {
    Quit,
    BySignal(Signal),
}

/// Applies events to the model, draws it, and carries out its effects.
struct Driver {
    screen: Screen,
    model: TopModel,
    questions: Arc<Asked>,
    out: SyncSender<Wake>,
}

impl Driver {
    fn run(&mut self, wakes: &Receiver<Wake>) -> anyhow::Result<Ended> {
        self.draw()?;
        let (mut drawn, mut tick) = (Instant::now(), Instant::now() + TICK);
        let mut draw_at = None::<Instant>;
        loop {
            // Before an event is taken: under a flood of events there is always one, and nothing would be drawn.
            let now = Instant::now();
            if draw_at.is_some_and(|at| at <= now) {
                self.draw()?;
                (drawn, draw_at) = (now, None);
            }
            let until = draw_at.map_or(tick, |at| at.min(tick));
            let wake = match tick <= now {
                true if screen::is_hung_up() => return Ok(Ended::BySignal(Signal::SIGHUP)),
                true => {
                    tick = now + TICK;
                    Wake::Event(TopEvent::Tick)
                }
                false => match wakes.recv_timeout(until.saturating_duration_since(now)) {
                    Ok(wake) => wake,
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => return Ok(Ended::Quit),
                },
            };
            let is_typed = matches!(wake, Wake::Input(_) | Wake::Signal(_));
            if let Some(ended) = self.wake(wake)? {
                return Ok(ended);
            }
            let at = if is_typed { Instant::now() } else { drawn + DRAW_EVERY };
            draw_at = Some(draw_at.map_or(at, |before| before.min(at)));
        }
    }

    fn wake(&mut self, wake: Wake) -> anyhow::Result<Option<Ended>> {
        let event = match wake {
            Wake::Event(event) => event,
            Wake::Input(Event::Key(key)) => match TopKey::of(key) {
                Some(key) => TopEvent::Key(key),
                None => return Ok(None),
            },
            Wake::Input(Event::Resize(width, height)) => TopEvent::Resized(width, height),
            Wake::Input(_) => return Ok(None),
            Wake::InputEnded => return Ok(Some(Ended::BySignal(Signal::SIGHUP))),
            Wake::Signal(Signal::SIGTSTP) => return self.suspend().map(|()| None),
            Wake::Signal(Signal::SIGCONT) => {
                self.retake()?;
                return Ok(None);
            }
            Wake::Signal(signal) => return Ok(Some(Ended::BySignal(signal))),
        };
        match self.model.update(event, clock::realtime_ns()) {
            Some(Effect::Quit) => return Ok(Some(Ended::Quit)),
            Some(Effect::Suspend) => self.suspend()?,
            Some(Effect::Redraw) => self.screen.terminal.clear()?,
            Some(Effect::Ask(wanted)) => self.questions.ask(TopQuestion::Details(wanted)),
            Some(Effect::List { ended }) => self.questions.ask(TopQuestion::List { ended }),
            Some(Effect::Jump { socket, pane }) => self.jump(socket, pane)?,
            None => {}
        }
        Ok(None)
    }

    fn draw(&mut self) -> anyhow::Result<()> {
        self.model.settle();
        let model = &mut self.model;
        self.screen.terminal.draw(|frame| {
            // The terminal may have another size than the last event said.
            model.fit(frame.area().width, frame.area().height);
            if let Some(position) = view::draw(model, frame.buffer_mut()) {
                frame.set_cursor_position(position);
            }
        })?;
        Ok(())
    }

    fn suspend(&mut self) -> anyhow::Result<()> {
        screen::give_back();
        signals::stop();
        self.retake()
    }

    /// After a stop: the terminal may have been set by others, and have another size.
    fn retake(&mut self) -> anyhow::Result<()> {
        self.screen.retake()?;
        let (width, height) = self.screen.size();
        self.model.update(TopEvent::Resized(width, height), clock::realtime_ns());
        Ok(())
    }

    /// Has tmux show the pane. A server that does not answer is not waited for.
    fn jump(&self, socket: Vec<u8>, pane: String) -> anyhow::Result<()> {
        let out = self.out.clone();
        let switch = move || {
            let mut tmux = Command::new("tmux");
            tmux.arg("-S").arg(OsStr::from_bytes(&socket)).args(["switch-client", "-t", &pane]);
            let note = match tmux.stdin(Stdio::null()).output() {
                Ok(done) if done.status.success() => format!("tmux shows the pane {pane}"),
                Ok(done) => {
                    let why = String::from_utf8_lossy(&done.stderr);
                    format!("tmux does not show the pane {pane}: {}", to_one_line(why.trim()))
                }
                Err(error) => format!("cannot run tmux ({error}): is it installed?"),
            };
            let _ = out.send(Wake::Event(TopEvent::Note(note)));
        };
        thread::Builder::new()
            .name("tmux".into())
            .spawn(switch)
            .context("cannot start a thread; see `ulimit -u`")?;
        Ok(())
    }
}
