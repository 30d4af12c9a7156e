//! The table: one test a row, each with the answers that a person expects.
//!
//! The command line is run by `sh -c` in a new home, on a terminal of the test. `{vim}` is `vim -Nu NONE -n notes`; `{tmux}`,
//! `{screen}` and `{dtach}` start the row's multiplexer, `{outer}` another tmux around it, `{typed}` a tmux with a shell into which the rest is typed. `home/` has
//! the files of a home.
//!
//! - **right process**: its command line, as /proc has it; `*` is anything. Of a chain of matches, the innermost.
//! - **tty**: `Outer` is the test's terminal, `Pane` the one of tmux's pane, `Inner` another one, `Free` what /proc has.
//! - **pane**: whose pane is shown; `Stale`: none, because the multiplexer that the environment names is not the nearest one.
//! - **hang-up**: what becomes of the session when the test closes the terminal; to a multiplexer, that is a detach. `Varies`: its process ends, or lives without
//!   a terminal; it depends on how far it had started, and observer must agree with /proc.
//! - **server**: the outermost multiplexer, and what becomes of the session when its server is killed after that.
//!
//! Every row is asked about after its start, after a restart of the daemon, in one look without a daemon, after SIGKILL of the
//! right process (its session ends), and after the same command was started again.

use crate::row::{After, Pane, Row, Server, Tty};

macro_rules! rows {
    ($($test:ident: $command:literal => $right:literal, $program:literal, $tty:ident, $pane:ident,
        $hang_up:ident, $server:ident$(($after:ident))?;)*) => {
        $(
            #[test]
            fn $test() {
                Row {
                    command: $command,
                    right: $right,
                    program: $program,
                    tty: Tty::$tty,
                    pane: Pane::$pane,
                    hang_up: After::$hang_up,
                    server: Server::$server$((After::$after))?,
                }
                .run();
            }
        )*
    };
}

#[rustfmt::skip]
rows! {
//  test                        command line                                               right process           program    tty    pane    hang-up   server
    vim:                        "vim -Nu NONE -n notes"                                 => "{vim}",                "vim",     Outer, No,     Ends,     No;
    ncdu:                       "ncdu"                                                  => "ncdu",                 "ncdu",    Outer, No,     Ends,     No;
    mc:                         "mc"                                                    => "mc",                   "mc",      Outer, No,     Ends,     No;
    ipython:                    "ipython"                                               => "*python* */ipython",   "ipython", Outer, No,     Ends,     No;
    python_with_a_module:       "python3 -m IPython"                                    => "python3 -m IPython",   "IPython", Outer, No,     Ends,     No;
    uv_run:                     "uv run --no-project --offline tool.py"                 => "*/python* tool.py",    "tool",    Outer, No,     Ends,     No;

    node_behind_a_shebang:      "env GEMINI_CLI_NO_RELAUNCH=true gemini"                => "node */gemini",        "gemini",  Outer, No,     Varies,   No;
    node_that_starts_node:      "gemini"                                                => "*node --* */gemini",   "gemini",  Outer, No,     Varies,   No;
    node_that_starts_a_binary:  "codex"                                                 => "*/codex/codex",        "codex",   Outer, No,     Ends,     No;
    npx:                        "npx --offline --prefix {npm} codex"                    => "*/codex/codex",        "codex",   Outer, No,     Ends,     No;

    env:                        "env A=b {vim}"                                         => "{vim}",                "vim",     Outer, No,     Ends,     No;
    timeout:                    "timeout --foreground 1000 {vim}"                       => "{vim}",                "vim",     Outer, No,     Ends,     No;
    sudo:                       "sudo {vim}"                                            => "{vim}",                "vim",     Free,  No,     Ends,     No;
    su:                         "su -c '{vim}'"                                         => "{vim}",                "vim",     Outer, No,     Ends,     No;
    make:                       "make edit"                                             => "{vim}",                "vim",     Outer, No,     Ends,     No;
    xargs:                      "xargs -a list -o vim -Nu NONE -n"                      => "{vim}",                "vim",     Outer, No,     Ends,     No;
    script:                     "script -qc '{vim}' /dev/null"                          => "{vim}",                "vim",     Inner, No,     Live,     No;
    expect:                     "expect -c 'spawn {vim}; interact'"                     => "{vim}",                "vim",     Inner, No,     Ends,     No;
    nohup:                      "nohup python3 tool.py"                                 => "python3 tool.py",      "tool",    Outer, No,     Detached, No;
    setsid:                     "setsid --fork --wait python3 tool.py"                  => "python3 tool.py",      "tool",    No,    No,     Live,     No;
    bwrap:                      "bwrap --dev-bind / / --unshare-pid --proc /proc {vim}" => "{vim}",                "vim",     Outer, No,     Ends,     No;
    runc:                       "runc --root {dir}/runc run --bundle {bundle} {id}"     => "{vim}",                "vim",     Other, No,     Ends,     No;

    script_of_a_shell:          "./start.sh"                                            => "{vim}",                "vim",     Outer, No,     Ends,     No;
    shell_with_a_script:        "sh start.sh"                                           => "{vim}",                "vim",     Outer, No,     Ends,     No;
    script_of_bash_by_env:      "./bash.sh"                                             => "{vim}",                "vim",     Outer, No,     Ends,     No;
    script_without_a_shebang:   "bash -c './plain; true'"                               => "{vim}",                "vim",     Outer, No,     Ends,     No;
    login_shell_with_a_command: "bash -lc '{vim}; true'"                                => "{vim}",                "vim",     Outer, No,     Ends,     No;
    program_typed_into_a_shell: "{typed} ipython Enter"                                 => "*python* */ipython",   "ipython", Pane,  Tmux,   Live,     Tmux(Ends);

    vim_in_tmux:                "{tmux} '{vim}'"                                        => "{vim}",                "vim",     Pane,  Tmux,   Live,     Tmux(Ends);
    vim_in_screen:              "{screen} {vim}"                                        => "{vim}",                "vim",     Inner, Screen, Live,     Screen(Ends);
    vim_in_dtach:               "{dtach} {vim}"                                         => "{vim}",                "vim",     Inner, No,     Live,     Dtach(Ends);
    vim_in_byobu:               "byobu -L row new-session '{vim}'"                      => "{vim}",                "vim",     Pane,  Tmux,   Live,     Tmux(Ends);
    vim_in_mosh:                "./mosh.sh mosh-server {vim}"                           => "{vim}",                "vim",     Inner, No,     Ends,     No;
    gemini_in_tmux:             "{tmux} gemini"                                         => "*node --* */gemini",   "gemini",  Pane,  Tmux,   Live,     Tmux(Varies);
    codex_in_screen:            "{screen} codex"                                        => "*/codex/codex",        "codex",   Inner, Screen, Live,     Screen(Ends);
    sudo_in_tmux:               "{tmux} 'sudo {vim}'"                                   => "{vim}",                "vim",     Free,  Tmux,   Live,     Tmux(Ends);
    screen_in_tmux:             "{tmux} '{screen} {vim}'"                               => "{vim}",                "vim",     Inner, Screen, Live,     Tmux(Live);
    dtach_in_tmux:              "{tmux} '{dtach} {vim}'"                                => "{vim}",                "vim",     Inner, Stale, Live,     Tmux(Live);
    tmux_in_screen:             "{screen} {tmux} '{vim}'"                               => "{vim}",                "vim",     Pane,  Tmux,   Live,     Screen(Live);
    tmux_in_tmux:               "{outer} 'env -u TMUX {tmux} \"{vim}\"'"                => "{vim}",                "vim",     Pane,  Tmux,   Live,     OuterTmux(Live);
    dtach_in_screen:            "{screen} {dtach} {vim}"                                => "{vim}",                "vim",     Inner, Stale, Live,     Screen(Live);
    tmux_in_dtach:              "{dtach} {tmux} '{vim}'"                                => "{vim}",                "vim",     Pane,  Tmux,   Live,     Dtach(Live);

    started_by_a_dead_program:  "{typed} 'python3 successor.py' Enter"                  => "python3 tool.py",      "tool",    Pane,  Tmux,   Live,     Tmux(Detached);
    tmux_of_a_dead_program:     "python3 server.py"                                     => "{vim}",                "vim",     Pane,  Tmux,   Live,     Tmux(Ends);
}
