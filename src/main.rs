//! The command line of graphc; one file per command in `cli/`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
