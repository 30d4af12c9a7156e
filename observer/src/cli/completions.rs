//! `observer completions`

use clap::Args;
use clap_complete::Shell;

use super::exit::Exit;

/// Source it, or put it where the shell looks for completions.
#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

impl CompletionsArgs {
    /// Prints the script for `program`; the exit code is 0.
    pub fn run(self, program: &mut clap::Command) -> anyhow::Result<Exit> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, program, "observer", &mut script);
        std::io::Write::write_all(&mut std::io::stdout().lock(), &script)?;
        Ok(Exit::Found)
    }
}
