//! The program `ottla` with failpoints compiled in, for the tests.

fn main() -> std::process::ExitCode {
    appliance::main()
}
