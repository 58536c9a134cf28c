//! The command line of graphc; one file per command in `cli/`.

mod cli;
mod heap;

#[global_allocator]
static HEAP: heap::Heap = heap::Heap;

fn main() -> std::process::ExitCode {
    cli::main()
}
