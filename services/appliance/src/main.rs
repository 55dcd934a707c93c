//! The program `ottla`; all of it is in the library, so that the tests can run the same with failpoints.

fn main() -> std::process::ExitCode {
    appliance::main()
}
