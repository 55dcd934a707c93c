use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

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
        error.starts_with("`broker.listeners` is 0.0.0.0:9092; Ottla asks Kafka clients for no"),
        "{error}"
    );
    let list = "PLAINTEXT://127.0.0.1:9092,SSL://192.0.2.1:9093";
    let error = with_environment("OTTLA__BROKER__LISTENERS", list).unwrap_err().to_string();
    assert!(error.starts_with("`broker.listeners` is 192.0.2.1:9093; "), "{error}");
    let error = with_environment("OTTLA__HTTP__LISTEN", "0.0.0.0:80").unwrap_err().to_string();
    assert!(error.starts_with("`http.listen` is 0.0.0.0:80; Ottla's HTTP has no TLS"), "{error}");
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

const KEYSTORE: &str = include_str!("../../../tests/tls/keystore.pem");
const BOTH: &str = "PLAINTEXT://127.0.0.1:9092,SSL://127.0.0.1:9093";

/// A file of this mode in a directory of its own.
fn secret_file(text: &str, mode: u32) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keystore.pem");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

fn with_keystore(path: &str, more: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let variables =
        [("OTTLA__BROKER__LISTENERS", BOTH), ("OTTLA__BROKER__SSL_KEYSTORE_LOCATION", path)];
    let environment = variables.iter().chain(more);
    let environment = environment.map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    load(&Sources { environment: environment.collect(), ..Sources::default() })
}

#[test]
fn listeners_are_one_address_or_kafkas_list_of_them() {
    let listeners = |text| with_environment("OTTLA__BROKER__LISTENERS", text);
    let plaintext = Listeners { plaintext: "127.0.0.1:7".parse().unwrap(), ssl: None };
    for text in ["127.0.0.1:7", "PLAINTEXT://127.0.0.1:7", " PLAINTEXT://127.0.0.1:7 ,"] {
        assert_eq!(listeners(text).unwrap().broker.listeners, plaintext, "{text}");
    }
    for (text, why) in [
        ("SSL://127.0.0.1:9093", "there is no PLAINTEXT among them"),
        ("SASL_SSL://127.0.0.1:9093", "`SASL_SSL` is not a protocol that Ottla has"),
        ("127.0.0.1:1,PLAINTEXT://127.0.0.1:2", "PLAINTEXT is there twice"),
        ("PLAINTEXT://localhost:1", "`localhost:1` is not an address and port"),
        ("", "there is no PLAINTEXT among them"),
        ("127.0.0.1:1,SSL://127.0.0.1:1", "give one of them another port"),
    ] {
        let error = listeners(text).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }

    let advertised = |text| with_environment("OTTLA__BROKER__ADVERTISED_LISTENERS", text);
    let settings = advertised("kafka:9092").unwrap();
    assert_eq!(settings.broker.advertised_listeners.plaintext.as_deref(), Some("kafka:9092"));
    for wrong in ["kafka", "0.0.0.0:9092", "SSL://http://kafka:9093", "SSL://"] {
        let error = advertised(wrong).unwrap_err().to_string();
        assert!(error.contains("; write host:port as a client could connect to"), "{error}");
    }
    let error = advertised("SSL://kafka:9093").unwrap_err().to_string();
    assert!(
        error
            .starts_with("`broker.advertised.listeners` is SSL://kafka:9093; broker.listeners has"),
        "{error}"
    );
}

#[test]
fn an_ssl_listener_has_a_keystore_that_nobody_else_may_read() {
    let (directory, path) = secret_file(KEYSTORE, 0o600);
    let settings = with_keystore(&path, &[]).unwrap();
    assert!(settings.broker.ssl_keystore.is_some());
    assert!(!show(&settings).contains("PRIVATE"), "{}", show(&settings));

    let (readable_directory, readable) = secret_file(KEYSTORE, 0o640);
    let error = with_keystore(&readable, &[]).unwrap_err().to_string();
    assert!(error.contains("(mode 0640), so run chmod 600 /"), "{error}");
    // systemd gives its credentials to one user by an ACL, which shows as the group's mode.
    let credentials = ("CREDENTIALS_DIRECTORY", readable_directory.path().to_str().unwrap());
    assert!(with_keystore(&readable, &[credentials]).unwrap().broker.ssl_keystore.is_some());

    let error = with_keystore("", &[]).unwrap_err().to_string();
    assert!(error.starts_with("`broker.ssl.keystore.location` is empty; "), "{error}");
    let missing = directory.path().join("missing");
    let error = with_keystore(missing.to_str().unwrap(), &[]).unwrap_err().to_string();
    assert!(error.contains("it cannot be read (No such file"), "{error}");

    // Who uses another cluster starts no listener and needs no keystore.
    assert!(with_keystore("", &[("KAFKA_BROKERS", "kafka:9092")]).is_ok());
}

#[test]
fn a_keystore_without_key_or_certificate_is_refused() {
    let (key, certificate) = KEYSTORE.split_at(KEYSTORE.find("-----BEGIN CERTIFICATE").unwrap());
    let locked = KEYSTORE.replace(" PRIVATE KEY", " ENCRYPTED PRIVATE KEY");
    for (text, why) in [
        (key, "it holds no certificate, so put into this one file"),
        (certificate, "it holds no private key, so put into this one file"),
        ("not PEM", "it holds no certificate, so put"),
        (&locked, "its private key has a password, so write it without one"),
    ] {
        let (_directory, path) = secret_file(text, 0o600);
        let error = with_keystore(&path, &[]).unwrap_err().to_string();
        assert!(error.starts_with("`broker.ssl.keystore.location` is /"), "{error}");
        assert!(error.contains(why), "{error}");
    }
}
