//! A test in a process of its own, and what that holds.

/// Bytes of memory that this process holds.
pub fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Runs `test`, the body of the test of this name, in a process of its own: what the process holds is then
/// this test's alone, whatever runs beside it.
pub fn alone(name: &str, test: impl FnOnce()) {
    const ALONE: &str = "OTTLA_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let child = child.args(["--exact", name, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}{}", String::from_utf8_lossy(&child.stderr));
    assert!(said.contains("1 passed"), "{said}");
}
