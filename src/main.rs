//! The `hearthgate` program: arguments in, exit code out. See [`hearthgate::cli`].

#![forbid(unsafe_code)]

use std::process::ExitCode;

/// glibc's allocator keeps the memory of a burst of connections for ever; jemalloc gives it back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    hearthgate::cli::main()
}
