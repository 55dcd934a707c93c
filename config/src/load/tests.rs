use std::collections::BTreeSet;
use std::io::Write;

use super::*;
use crate::{DEFAULT_FILE, show};

fn with_file(text: &str) -> Result<Settings, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    load(&Sources { file: Some(file.path().to_owned()), ..Sources::default() })
}

fn with_environment(name: &str, value: &str) -> Result<Settings, ConfigError> {
    load(&Sources { environment: vec![(name.to_owned(), value.to_owned())], ..Sources::default() })
}

#[test]
fn the_shipped_file_holds_every_key_with_its_default_and_a_sentence() {
    let table: Table = DEFAULT_FILE.parse().unwrap();
    let merge = Merge::new();
    assert_eq!(flatten(&table), merge.defaults);
    assert_eq!(with_file(DEFAULT_FILE).unwrap(), Settings::default());

    let lines: Vec<&str> = DEFAULT_FILE.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        if line.contains(" = ") && !line.starts_with('#') {
            assert!(
                lines[number - 1].starts_with("# "),
                "line {} has no sentence: {line}",
                number + 1
            );
        }
    }
}

#[test]
fn no_two_keys_share_a_name_in_the_environment() {
    let keys = Merge::new().defaults;
    let names: BTreeSet<String> = keys.keys().map(|key| environment_name(key)).collect();
    assert_eq!(names.len(), keys.len());
}

#[test]
fn flags_win_over_the_environment_and_the_environment_over_the_file() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"[broker]\nnum.partitions = 3\n[http]\nlisten = '127.0.0.1:1'\n").unwrap();
    let settings = load(&Sources {
        file: Some(file.path().to_owned()),
        environment: vec![
            ("OTTLA__HTTP__LISTEN".to_owned(), "127.0.0.1:2".to_owned()),
            ("OTTLA__SERVICES__TASK__PORT".to_owned(), "7001".to_owned()),
            ("KAFKA_BROKERS".to_owned(), "kafka:9092".to_owned()),
            ("OTTLA_FAILPOINTS".to_owned(), "not a setting".to_owned()),
        ],
        flags: Flags { http: Some("127.0.0.1:3".parse().unwrap()), ..Flags::default() },
    })
    .unwrap();
    assert_eq!(settings.broker.num_partitions, 3);
    assert_eq!(settings.http.listen.port(), 3);
    assert_eq!(settings.services.task.port, 7001);
    assert_eq!(settings.services.brokers, "kafka:9092");
}

#[test]
fn an_unknown_key_is_refused_with_the_name_that_was_meant() {
    let error = with_file("[http]\nlisen = '127.0.0.1:1'\n").unwrap_err().to_string();
    assert!(error.contains("unknown key `http.lisen` in /"), "{error}");
    assert!(error.ends_with("did you mean `http.listen`?"), "{error}");

    let error = with_environment("OTTLA__HTTP__LISEN", "x").unwrap_err().to_string();
    assert!(error.ends_with("did you mean `OTTLA__HTTP__LISTEN`?"), "{error}");
}

#[test]
fn a_wrong_type_is_refused_and_says_what_would_be_right() {
    let error = with_file("[broker]\nnum.partitions = 'three'\n").unwrap_err().to_string();
    assert!(error.starts_with("`broker.num.partitions` in /"), "{error}");
    assert!(error.contains("must be a whole number such as 1"), "{error}");

    let error = with_environment("OTTLA__BROKER__NODE_ID", "one").unwrap_err().to_string();
    assert!(
        error.starts_with("`broker.node.id` (from OTTLA__BROKER__NODE_ID) is \"one\""),
        "{error}"
    );

    let error = with_environment("OTTLA__HTTP__LISTEN", "here").unwrap_err().to_string();
    assert!(
        error.contains("such as \"127.0.0.1:8080\" (invalid socket address syntax)"),
        "{error}"
    );

    let error = with_environment("OTTLA__AUTH__REGISTRATION", "maybe").unwrap_err().to_string();
    assert!(error.contains("expected one of `open`, `invite`, `closed`"), "{error}");
}

#[test]
fn a_broken_file_is_refused_with_its_line() {
    let error = with_file("[http]\nlisten = = 1\n").unwrap_err().to_string();
    assert!(error.contains("at line 2"), "{error}");
}

#[test]
fn a_listener_beyond_loopback_is_refused() {
    let error =
        with_environment("OTTLA__BROKER__LISTENERS", "0.0.0.0:9092").unwrap_err().to_string();
    assert!(
        error.starts_with("`broker.listeners` is 0.0.0.0:9092; Ottla has no TLS yet"),
        "{error}"
    );
    assert!(with_environment("OTTLA__BROKER__LISTENERS", "[::1]:9092").is_ok());
}

#[test]
fn what_the_storage_is_to_follow_is_what_differs_from_kafkas_defaults() {
    assert!(Settings::default().broker.static_configs().is_empty());
    let text = "[broker]\nlog.retention.hours = 24\nlog.retention.ms = -1\nlog.retention.bytes = -1
log.cleanup.policy = 'compact,delete'\nproducer.id.expiration.ms = 1000\n";
    let configs = with_file(text).unwrap().broker.static_configs();
    let shown: Vec<String> = configs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let expected = [
        "log.cleanup.policy=compact,delete",
        "log.retention.hours=24",
        "log.retention.ms=-1",
        "producer.id.expiration.ms=1000",
    ];
    assert_eq!(shown, expected);
}

#[test]
fn times_and_sizes_that_kafka_refuses_are_refused() {
    for (key, value) in [
        ("LOG_RETENTION_HOURS", "0"),
        ("LOG_RETENTION_MS", "-2"),
        ("LOG_RETENTION_BYTES", "-2"),
        ("LOG_SEGMENT_BYTES", "1024"),
        ("LOG_ROLL_HOURS", "0"),
        ("LOG_ROLL_MS", "-1"),
        ("LOG_CLEANUP_POLICY", "keep"),
        ("LOG_CLEANER_DELETE_RETENTION_MS", "-1"),
        ("OFFSETS_RETENTION_MINUTES", "0"),
        ("OFFSETS_RETENTION_CHECK_INTERVAL_MS", "0"),
        ("TRANSACTIONAL_ID_EXPIRATION_MS", "0"),
        ("PRODUCER_ID_EXPIRATION_MS", "2147483648"),
    ] {
        let error = with_environment(&format!("OTTLA__BROKER__{key}"), value).unwrap_err();
        let error = error.to_string();
        let name = format!("broker.{}", key.to_lowercase().replace('_', "."));
        assert!(error.starts_with(&format!("`{name}` is ")), "{error}");
        assert!(error.contains("; write "), "{error}");
    }
    assert!(with_environment("OTTLA__BROKER__LOG_RETENTION_HOURS", "-1").is_ok());
}

#[test]
fn a_secret_may_come_from_a_file_and_is_never_shown() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"smtp://me:geheim@mail.example:587\n").unwrap();
    let settings =
        with_environment("OTTLA__MAIL__URL_FILE", file.path().to_str().unwrap()).unwrap();
    assert_eq!(settings.mail.url, "smtp://me:geheim@mail.example:587");
    assert!(!show(&settings).contains("geheim"));

    let error = with_environment("OTTLA__MAIL__URL", "http://me:geheim@x").unwrap_err().to_string();
    assert!(
        error.starts_with("`mail.url` is not the URL of a mail server")
            && !error.contains("geheim"),
        "{error}"
    );
}

#[test]
fn what_is_shown_can_be_read_again() {
    assert_eq!(with_file(&show(&Settings::default())).unwrap(), Settings::default());
}
