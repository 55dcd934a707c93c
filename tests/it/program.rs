//! The program's own manners: what it refuses, how it ends, what it prints.

use std::path::Path;

use rustix::process::Signal;

use crate::harness::{Appliance, free_port, program, run};

fn serve(data: &Path, more: &[&str]) -> (i32, String) {
    let (kafka, http) =
        (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
    let mut arguments =
        vec!["serve", "--data-dir", data.to_str().unwrap(), "--kafka", &kafka, "--http", &http];
    arguments.extend(more);
    let (code, _, error) = run(&arguments);
    (code, error.lines().last().unwrap_or_default().to_owned())
}

#[test]
fn a_configuration_that_is_refused_ends_with_64_and_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ottla.toml");
    std::fs::write(&file, "[http]\nlisen = '127.0.0.1:1'\n").unwrap();
    let (code, error) = serve(directory.path(), &["--config", file.to_str().unwrap()]);
    assert_eq!(code, 64);
    assert!(error.starts_with("ottla: unknown key `http.lisen` in "), "{error}");
    assert!(error.ends_with("did you mean `http.listen`?"), "{error}");

    let (code, _, error) = run(&["config", "check", "--config", file.to_str().unwrap()]);
    assert_eq!((code, error.lines().count()), (64, 1), "{error}");

    let (code, _, error) = run(&["serve", "--kafka", "0.0.0.0:9092"]);
    assert_eq!(code, 64);
    assert!(error.contains("`broker.listeners` is 0.0.0.0:9092"), "{error}");
    assert_eq!(run(&["serve", "--no-such-flag"]).0, 64);
}

#[test]
fn a_data_directory_that_is_not_ours_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let letter = directory.path().join("letter.txt");
    std::fs::write(&letter, "dear").unwrap();
    let (code, error) = serve(directory.path(), &[]);
    assert_eq!(code, 64, "{error}");
    assert!(error.contains(directory.path().to_str().unwrap()), "{error}");
    let names: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(names, [letter]);
}

#[tokio::test]
async fn a_data_directory_or_a_port_in_use_is_refused() {
    let app = Appliance::start().await;
    let (code, error) = serve(&app.data_dir(), &[]);
    assert_eq!(code, 64, "{error}");
    assert!(
        error.contains(app.data_dir().to_str().unwrap()) && error.contains("in use"),
        "{error}"
    );

    for flag in ["--kafka", "--http"] {
        let directory = tempfile::tempdir().unwrap();
        let taken =
            if flag == "--kafka" { app.brokers() } else { format!("127.0.0.1:{}", app.http) };
        let other = format!("127.0.0.1:{}", free_port());
        let others = if flag == "--kafka" { "--http" } else { "--kafka" };
        let data = directory.path().join("data");
        let (code, _, error) =
            run(&["serve", "--data-dir", data.to_str().unwrap(), flag, &taken, others, &other]);
        assert_eq!(code, 64, "{error}");
        let sentence = error.lines().last().unwrap();
        assert!(sentence.contains(&taken) && sentence.contains(flag), "{sentence}");
    }
}

#[tokio::test]
async fn it_stops_within_a_second_with_clients_connected_and_again_at_once_on_a_second_signal() {
    let mut app = Appliance::start().await;
    let idle = std::net::TcpStream::connect(app.brokers()).unwrap();
    let (status, took) = app.stop().await;
    assert!(status.success(), "{status}");
    assert!(took.as_millis() < 1000, "stopped after {took:?}");
    drop(idle);

    app.restart().await;
    app.signal(Signal::INT);
    let (_, took) = app.stop().await;
    assert!(took.as_millis() < 1000, "stopped after {took:?}");
}

#[test]
fn config_show_prints_what_holds_without_secrets() {
    let output = program()
        .args(["config", "show"])
        .env("OTTLA__MAIL__URL", "smtp://me:geheim@mail.example")
        .env("OTTLA__BROKER__NUM_PARTITIONS", "7")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("broker.num.partitions = 7\n"), "{text}");
    assert!(!text.contains("geheim"), "{text}");
}

#[test]
fn without_a_broker_the_clients_say_so() {
    let brokers = format!("127.0.0.1:{}", free_port());
    for arguments in [vec!["consume", "user.created"], vec!["groups"]] {
        let mut arguments = arguments;
        arguments.extend(["--brokers", &brokers]);
        let (code, _, error) = run(&arguments);
        assert_eq!(code, 1);
        assert!(error.contains(&format!("no answer from a broker at {brokers}")), "{error}");
    }
    let http = format!("127.0.0.1:{}", free_port());
    let (code, _, error) = run(&["healthcheck", "--http", &http]);
    assert_eq!(code, 1);
    assert!(error.contains("is Ottla running?"), "{error}");
}

#[tokio::test]
async fn doctor_and_dump_show_what_is_stored_and_repair_what_is_damaged() {
    // Which log is damaged differs from run to run, and so does what the services say of what it lost.
    let mut app = Appliance::setup().expect_log("").start().await;
    app.person("anna").await;
    let data = app.data_dir();
    let of = |arguments: &[&str]| {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--data-dir", data.to_str().unwrap()]);
        run(&arguments)
    };
    let (code, output, error) = of(&["doctor"]);
    assert_eq!(code, 0, "{error}");
    for part in ["file system", "sync", "write cache", "open files", "acks", "A broker is using"] {
        assert!(output.to_lowercase().contains(&part.to_lowercase()), "{part}: {output}");
    }
    assert_eq!(of(&["doctor", "--repair"]).0, 64);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", app.pid())).unwrap();
    let limit = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let [soft, hard] = [3, 4].map(|column| limit.split_whitespace().nth(column).unwrap());
    assert_eq!(soft, hard, "a shell's limit is not the program's");
    app.stop().await;

    let (code, output, error) = of(&["doctor"]);
    assert_eq!(code, 0, "{error}");
    assert!(output.contains("Everything that is stored is whole."), "{output}");
    let (code, output, _) = of(&["dump", "partition", "user.created", "0", "--records"]);
    let (_, others, _) = of(&["dump", "partition", "user.created", "1", "--records"]);
    assert_eq!(code, 0);
    assert!(format!("{output}{others}").contains("anna"), "{output}{others}");
    let (code, output, _) = of(&["dump", "journal"]);
    assert_eq!(code, 0);
    assert!(output.contains("cycle 1 ") && output.contains("__cluster_metadata-0"), "{output}");
    let (code, output, _) = of(&["dump", "checkpoint"]);
    assert_eq!(code, 0);
    assert!(output.contains("of a clean stop") && output.contains("user.created-0"), "{output}");

    let log = std::fs::read_dir(data.join("topics"))
        .unwrap()
        .flat_map(|topic| std::fs::read_dir(topic.unwrap().path()).unwrap())
        .map(|partition| partition.unwrap().path().join(format!("{:020}.log", 0)))
        .find(|log| std::fs::read(log).is_ok_and(|bytes| contains(&bytes, b"anna@example.com")))
        .unwrap();
    let mut bytes = std::fs::read(&log).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    let (code, output, error) = of(&["doctor"]);
    assert_eq!(code, 1);
    assert!(output.contains("no whole record batch of ") && output.contains("offset"), "{output}");
    assert!(error.contains("ottla doctor --repair"), "{error}");
    let (code, output, error) = of(&["doctor", "--repair"]);
    assert_eq!(code, 0, "{error}");
    assert!(output.contains("leader epoch is 1") && output.contains(".damaged"), "{output}");
    assert_eq!(of(&["doctor"]).0, 0);
    app.restart().await;
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
