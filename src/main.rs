use std::process::ExitCode;

/// What is freed by another thread than took it, as answers are, costs the system's allocator a sixth of a look-up.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rollcall::cli::main()
}
