//! `observer man`: what the package installs as man pages.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Command};
use clap_mangen::Man;

use super::exit::Exit;

/// Writes observer(1), and a page for each command.
#[derive(Args)]
pub struct ManArgs {
    /// The directory, which must exist
    directory: PathBuf,
}

impl ManArgs {
    /// Writes the pages of `program`; the exit code is 0.
    pub fn run(self, program: Command) -> anyhow::Result<Exit> {
        let mut program = program.disable_help_subcommand(true);
        let source = format!("{} {}", program.get_name(), program.get_version().unwrap_or_default());
        // Gives each command below the name of its page.
        program.build();
        self.write(&program, &source)
            .with_context(|| format!("{}: name a directory that exists", self.directory.display()))?;
        Ok(Exit::Found)
    }

    /// Writes the pages of a command and of those below it. `source`, at the foot of each, is what they belong to.
    fn write(&self, command: &Command, source: &str) -> std::io::Result<()> {
        let mut below = command.get_subcommands().filter(|below| !below.is_hide_set());
        below.try_for_each(|below| self.write(below, source))?;
        Man::new(command.clone()).source(source).generate_to(&self.directory).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::CommandLine;

    /// The pages of a command and of those below it, by their names.
    fn pages(command: &Command, prefix: &str) -> Vec<String> {
        let name = if prefix.is_empty() {
            command.get_name().into()
        } else {
            format!("{prefix}-{}", command.get_name())
        };
        let below = command.get_subcommands().filter(|below| !below.is_hide_set());
        let below: Vec<_> = below.flat_map(|below| pages(below, &name)).collect();
        [format!("{name}.1")].into_iter().chain(below).collect()
    }

    #[test]
    fn each_command_has_a_page_that_describes_it() {
        let directory = tempfile::tempdir().unwrap();
        ManArgs { directory: directory.path().into() }.run(CommandLine::command()).unwrap();
        let mut found: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap()).collect();
        found.sort_by_key(|entry| entry.file_name());
        let names: Vec<_> = found.iter().map(|entry| entry.file_name().into_string().unwrap()).collect();
        let mut expected = pages(&CommandLine::command(), "");
        expected.sort();
        assert_eq!(names, expected);
        assert!(names.contains(&"observer-rules-check.1".to_owned()) && names.len() > 17, "{names:?}");
        for entry in found {
            let text = fs::read_to_string(entry.path()).unwrap();
            for part in [".TH ", ".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH OPTIONS"] {
                assert!(text.contains(part), "{:?} has no {part}:\n{text}", entry.file_name());
            }
            let title = text.lines().find(|line| line.starts_with(".TH ")).unwrap_or_default();
            let foot = concat!("\"observer ", env!("CARGO_PKG_VERSION"), "\"");
            assert!(title.contains(foot), "{:?}: {title}", entry.file_name());
        }
    }
}
