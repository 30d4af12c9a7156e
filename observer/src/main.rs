//! The program `observer`: everything is in the library beside it.

fn main() -> std::process::ExitCode {
    observer::cli::main()
}
