//! The rules of CONTRIBUTING.md that neither the compiler nor clippy knows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::Table;

/// Which crate may import which of ours. Changing this list is a change of its own, with a decision page.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("storage", &["wire"]),
    ("coordinator", &["wire"]),
    ("security", &["wire"]),
    ("server", &["wire", "storage", "coordinator", "security"]),
    ("events", &[]),
    ("kit", &["events"]),
    ("auth", &["events", "kit"]),
    ("task", &["events", "kit"]),
    ("notification", &["events", "kit"]),
    ("config", &["server", "storage", "events", "kit", "auth", "task", "notification"]),
    (
        "appliance",
        &["config", "wire", "server", "storage", "events", "kit", "auth", "task", "notification"],
    ),
    ("ottla-tests", &["appliance", "events"]),
    ("ottla-crash", &["appliance"]),
    ("ottla-bench", &["storage", "wire"]),
];

/// Crates that see neither sockets nor timers nor disks.
const PURE: &[&str] = &["wire", "coordinator", "security"];

/// The only files in which sled is named.
const SLED: &[&str] = &["broker/storage/src/db.rs", "services/kit/src/db.rs"];

const TOP_LEVEL: &[&str] = &[
    ".ci",
    ".git",
    ".gitattributes",
    ".github",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "bench",
    "broker",
    "clippy.toml",
    "config",
    "deny.toml",
    "docs",
    "ottla-data",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "services",
    "systemd",
    "target",
    "tests",
];

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 70;
const PACKAGES: usize = 320;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file of the repository with one of the endings, as paths from its root.
fn files(endings: &[&str]) -> Vec<PathBuf> {
    let root = root();
    let mut found = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                let skipped =
                    [".git", "target", "ottla-data", "node_modules", "__pycache__", "venv"];
                if !skipped.contains(&name) {
                    directories.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path.strip_prefix(&root).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Every crate's name and manifest.
fn manifests() -> Vec<(String, Table)> {
    files(&["Cargo.toml"])
        .into_iter()
        .filter(|path| path.components().count() > 1)
        .map(|path| {
            let table: Table = read(&root().join(path)).parse().unwrap();
            (table["package"]["name"].as_str().unwrap().to_owned(), table)
        })
        .collect()
}

fn dependencies(manifest: &Table) -> Vec<(&String, &toml::Value)> {
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .iter()
        .filter_map(|kind| manifest.get(*kind)?.as_table())
        .flatten()
        .collect()
}

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn crates_import_only_what_lies_below_them() {
    let manifests = manifests();
    let ours: BTreeSet<&str> = MAY_IMPORT.iter().map(|(name, _)| *name).collect();
    let mut problems = Vec::new();
    for (name, manifest) in &manifests {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(known, _)| known == name) else {
            problems.push(format!("{name} is not in MAY_IMPORT"));
            continue;
        };
        for (dependency, value) in dependencies(manifest) {
            if ours.contains(dependency.as_str()) && !allowed.contains(&dependency.as_str()) {
                problems.push(format!("{name} may not import {dependency}"));
            }
            if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                problems.push(format!(
                    "{name} declares {dependency} itself instead of in the workspace"
                ));
            }
            let unclean = ["tokio", "tokio-util", "sled", "rustix", "getrandom"];
            let runtime = manifest["dependencies"].get(dependency).is_some();
            if runtime && PURE.contains(&name.as_str()) && unclean.contains(&dependency.as_str()) {
                problems.push(format!("{name} is pure and may not use {dependency}"));
            }
        }
    }
    assert_eq!(manifests.len(), MAY_IMPORT.len(), "a crate of MAY_IMPORT is gone");
    report(&problems);
}

#[test]
fn storage_knows_no_runtime() {
    let manifests = manifests();
    let (_, storage) = manifests.iter().find(|(name, _)| name == "storage").unwrap();
    assert!(storage["dependencies"].get("tokio").is_none());
}

#[test]
fn sled_is_named_in_two_files() {
    let mut problems = Vec::new();
    for path in files(&[".rs"]) {
        let named = read(&root().join(&path)).lines().any(|line| {
            !line.trim_start().starts_with("//") && line.contains(concat!("sled", "::"))
        });
        if named && !SLED.contains(&path.to_str().unwrap()) {
            problems.push(format!("{} names sled", path.display()));
        }
    }
    report(&problems);
}

#[test]
fn files_and_functions_are_short() {
    let mut problems = Vec::new();
    for path in files(&[".rs"]) {
        let text = read(&root().join(&path));
        let lines: Vec<&str> = text.lines().collect();
        let tests =
            lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].ends_with('{'));
        let length = tests.unwrap_or(lines.len());
        // A crate's tests are not counted, be they in the file or beside it.
        let is_tests = path.components().any(|part| part.as_os_str() == "src")
            && path
                .components()
                .any(|part| part.as_os_str().to_string_lossy().starts_with("tests"));
        if length > FILE_LINES && !is_tests {
            problems
                .push(format!("{} has {length} lines, {FILE_LINES} is the most", path.display()));
        }
        for (number, name, length) in functions(&lines) {
            if length > FUNCTION_LINES {
                problems.push(format!("{}:{number} {name} has {length} lines", path.display()));
            }
        }
    }
    report(&problems);
}

/// Line, name and length of every function; rustfmt closes each at the indentation at which it opened.
fn functions<'a>(lines: &[&'a str]) -> Vec<(usize, &'a str, usize)> {
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let head = line.trim_start();
        let signature = head
            .trim_start_matches("pub(crate) ")
            .trim_start_matches("pub(super) ")
            .trim_start_matches("pub ")
            .trim_start_matches("const ")
            .trim_start_matches("async ");
        let Some(rest) = signature.strip_prefix("fn ") else { continue };
        let close = format!("{}}}", &line[..line.len() - head.len()]);
        let body = &lines[start..];
        let opens = body.iter().position(|line| line.ends_with(['{', '}', ';']));
        let Some(open) = opens.filter(|open| body[*open].ends_with('{')) else { continue };
        if let Some(end) = body.iter().position(|line| *line == close) {
            let code = |line: &&&str| {
                let line = line.trim();
                !line.is_empty() && !line.starts_with("//")
            };
            let length = body[open + 1..end].iter().filter(code).count();
            found.push((start + 1, rest.split(['(', '<']).next().unwrap_or(rest), length));
        }
    }
    found
}

#[test]
fn the_scan_of_functions_finds_a_long_one() {
    let mut text = vec![
        "    fn short() -> u8 {",
        "        1",
        "    }",
        "pub async fn long(",
        "    a: u8,",
        ") {",
    ];
    text.extend(["    work();"; 71]);
    text.extend(["    // a comment", "}"]);
    assert_eq!(functions(&text), [(1, "short", 1), (4, "long", 71)]);
}

#[test]
fn the_top_level_holds_only_what_belongs_there() {
    let problems: Vec<String> = std::fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !TOP_LEVEL.contains(&name.as_str()))
        .map(|name| format!("{name} does not belong at the top level"))
        .collect();
    report(&problems);
}

#[test]
fn no_file_names_the_machine_it_was_written_on() {
    let here = root().display().to_string();
    let homes = [concat!("/ho", "me/"), concat!("/Us", "ers/")];
    let mut problems = Vec::new();
    for path in files(&[".rs", ".toml", ".md", ".service", ".sh", ".py", ".go", "run"]) {
        let text = read(&root().join(&path));
        if text.contains(&here) || homes.iter().any(|home| text.contains(home)) {
            problems.push(format!("{} holds a path of one machine", path.display()));
        }
    }
    report(&problems);
}

#[test]
fn no_test_is_ignored_and_no_lint_is_silenced_for_a_whole_crate() {
    let ignored = concat!("#[ig", "nore");
    let silenced = concat!("#![al", "low");
    let mut problems = Vec::new();
    for path in files(&[".rs"]) {
        for (number, line) in read(&root().join(&path)).lines().enumerate() {
            if line.trim_start().starts_with(ignored) || line.trim_start().starts_with(silenced) {
                problems.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    report(&problems);
}

#[test]
fn the_tree_of_dependencies_stays_small() {
    let lock = read(&root().join("Cargo.lock"));
    let packages = lock.lines().filter(|line| *line == "[[package]]").count();
    assert!(packages <= PACKAGES, "{packages} packages in Cargo.lock, {PACKAGES} is the budget");
}
