//! The `fieldpost` program; see [`fieldpost::cli`].

fn main() -> std::process::ExitCode {
    fieldpost::cli::main()
}
