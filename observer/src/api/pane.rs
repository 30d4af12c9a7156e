//! The names of a pane, from the environment variables in which tmux and screen give them.

use observer_core::process::{Env, Pane};

/// The names of a pane. All are `None` where there is no pane, and the first where it is not known which of several windows it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PaneNames<'a> {
    /// `TMUX_PANE`; under screen `WINDOW`.
    pub pane: Option<&'a [u8]>,
    /// `tmux` or `screen`.
    pub mux: Option<&'static str>,
    /// Path of the socket of tmux; under screen `STY`.
    pub socket: Option<&'a [u8]>,
    /// The environment names a pane that is not known to be that of the terminal.
    pub stale: bool,
}

impl<'a> PaneNames<'a> {
    /// The names of `pane`.
    pub fn of(pane: &'a Pane) -> Self {
        match pane {
            Pane::None => Self::default(),
            Pane::Stale => Self { stale: true, ..Self::default() },
            Pane::Tmux(env) => Self {
                pane: variable(env, "TMUX_PANE"),
                mux: Some("tmux"),
                socket: pane.mux_socket(),
                stale: false,
            },
            Pane::Screen(env) => Self {
                pane: variable(env, "WINDOW"),
                mux: Some("screen"),
                socket: pane.mux_socket(),
                stale: false,
            },
            Pane::SomeWindow(_) => {
                Self { pane: None, mux: Some("screen"), socket: pane.mux_socket(), stale: true }
            }
        }
    }
}

fn variable<'a>(env: &'a Env, name: &str) -> Option<&'a [u8]> {
    let value = |entry: &'a [u8]| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=");
    env.iter().find_map(|entry| value(entry))
}
