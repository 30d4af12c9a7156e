//! observer's developer commands: `cargo xtask VERB`. One file per verb; what several verbs need stands beside
//! them: `workspace` (where things are) and `toolchain` (what setup installs).
#![forbid(unsafe_op_in_unsafe_fn)]

mod bench;
mod build;
mod check;
mod dist;
mod fmt;
mod former;
mod run;
mod service;
mod setup;
mod sim;
mod test;
mod toolchain;
mod tools;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// observer's developer commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Setup(setup::Arguments),
    Build(build::Arguments),
    Run(run::Arguments),
    Test(test::Arguments),
    Check(check::Arguments),
    Bench(bench::Arguments),
    Sim(sim::Arguments),
    Vm(vm::VmArguments),
    Service(service::Arguments),
    Fmt(fmt::Arguments),
    Dist(dist::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = workspace::locate().and_then(|workspace| match &arguments.verb {
        Verb::Setup(verb) => setup::run(verb),
        Verb::Build(verb) => build::run(&workspace, verb),
        Verb::Run(verb) => run::run(&workspace, verb),
        Verb::Test(verb) => test::run(&workspace, verb),
        Verb::Check(verb) => check::run(&workspace, verb),
        Verb::Bench(verb) => bench::run(&workspace, verb),
        Verb::Sim(verb) => sim::run(&workspace, verb),
        Verb::Vm(verb) => vm::run(&workspace, verb),
        Verb::Service(verb) => service::run(&workspace, verb),
        Verb::Fmt(verb) => fmt::run(&workspace, verb),
        Verb::Dist(verb) => dist::run(&workspace, verb),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
