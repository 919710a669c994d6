//! Exit codes only; everything else is in the library.

fn main() -> std::process::ExitCode {
    trunkline::cli::main()
}
