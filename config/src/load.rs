use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use crate::check::{ConfigError, Origin, check, mail_url};
use crate::keystore;
use crate::leaves::{Leaves, environment_name, fill, flatten, nearest};
use crate::listeners::Listeners;
use crate::settings::Settings;

/// Everything that is looked at, in the order of its weight.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Read only when it is given: no file is looked for by itself.
    pub file: Option<PathBuf>,
    /// The process's environment; names that do not begin with `OTTLA__` are passed over, but
    /// for `KAFKA_BROKERS`, and `CREDENTIALS_DIRECTORY`, by which systemd says where a service's secrets are.
    pub environment: Vec<(String, String)>,
    pub flags: Flags,
}

/// The flags that are settings.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub data_dir: Option<PathBuf>,
    pub kafka: Option<Listeners>,
    pub http: Option<SocketAddr>,
    /// `--brokers` of a worker, the same as `KAFKA_BROKERS`.
    pub brokers: Option<String>,
    /// `--auth-url` of a worker.
    pub auth_url: Option<String>,
    /// `--sasl` of a worker.
    pub sasl: bool,
    /// `--service-key` of a worker.
    pub service_key: Option<PathBuf>,
}

/// Reads all sources and answers with settings that keep every rule.
pub fn load(sources: &Sources) -> Result<Settings, ConfigError> {
    let mut merge = Merge::new();
    if let Some(path) = &sources.file {
        merge.file(path)?;
    }
    merge.environment(&sources.environment)?;
    merge.flags(&sources.flags)?;
    let mut settings = merge.settings;
    settings.mail.url = secret(&settings.mail.url, &settings.mail.url_file)?;
    check(&settings)?;
    let mut environment = sources.environment.iter();
    let credentials = environment.find(|(name, _)| name == "CREDENTIALS_DIRECTORY");
    let credentials = credentials.map(|(_, path)| Path::new(path));
    settings.broker.ssl_keystore = keystore::read(&settings, credentials)?;
    Ok(settings)
}

struct Merge {
    template: Table,
    defaults: Leaves,
    leaves: Leaves,
    settings: Settings,
}

impl Merge {
    #[expect(
        clippy::expect_used,
        reason = "the default settings are strings, numbers and booleans in tables"
    )]
    fn new() -> Self {
        let settings = Settings::default();
        let template = Table::try_from(&settings).expect("default settings are a TOML table");
        let defaults = flatten(&template);
        Self { leaves: defaults.clone(), template, defaults, settings }
    }

    fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
            ConfigError::Syntax { path: path.to_owned(), line, message: error.message().to_owned() }
        })?;
        for (key, value) in flatten(&table) {
            self.set(&key, &value, Origin::File(path.to_owned()))?;
        }
        Ok(())
    }

    fn environment(&mut self, environment: &[(String, String)]) -> Result<(), ConfigError> {
        for (name, text) in environment {
            if name == "KAFKA_BROKERS" {
                self.set(
                    "services.brokers",
                    &Value::String(text.clone()),
                    Origin::Environment(name.clone()),
                )?;
                continue;
            }
            if !name.starts_with("OTTLA__") {
                continue;
            }
            let key = self.defaults.keys().find(|key| environment_name(key) == *name).cloned();
            let Some(key) = key else {
                let known: Vec<String> =
                    self.defaults.keys().map(|key| environment_name(key)).collect();
                return Err(ConfigError::UnknownKey {
                    key: name.clone(),
                    origin: Origin::Environment("the environment".to_owned()),
                    hint: hint(nearest(name, known.iter().map(String::as_str))),
                });
            };
            let value = self.parse(&key, text);
            self.set(&key, &value, Origin::Environment(name.clone()))?;
        }
        Ok(())
    }

    fn flags(&mut self, flags: &Flags) -> Result<(), ConfigError> {
        let text = |text: &Option<String>| text.clone().map(Value::String);
        let path = |path: &Option<PathBuf>| {
            path.as_ref().map(|path| Value::String(path.display().to_string()))
        };
        let address =
            |address: Option<SocketAddr>| address.map(|address| Value::String(address.to_string()));
        let values = [
            ("data_dir", "--data-dir", path(&flags.data_dir)),
            ("broker.listeners", "--kafka", flags.kafka.clone().map(|it| Value::String(it.into()))),
            ("http.listen", "--http", address(flags.http)),
            ("services.brokers", "--brokers", text(&flags.brokers)),
            ("services.auth.url", "--auth-url", text(&flags.auth_url)),
            ("services.sasl", "--sasl", flags.sasl.then_some(Value::Boolean(true))),
            ("services.key_file", "--service-key", path(&flags.service_key)),
        ];
        for (key, flag, value) in values {
            if let Some(value) = value {
                self.set(key, &value, Origin::Flag(flag))?;
            }
        }
        Ok(())
    }

    /// A text of the environment as the type that the key has; what does not parse stays a text and is refused by `set`.
    fn parse(&self, key: &str, text: &str) -> Value {
        let parsed = match self.defaults.get(key) {
            Some(Value::Integer(_)) => text.trim().parse().ok().map(Value::Integer),
            Some(Value::Boolean(_)) => text.trim().parse().ok().map(Value::Boolean),
            _ => None,
        };
        parsed.unwrap_or_else(|| Value::String(text.to_owned()))
    }

    /// One value at a time, so that whatever is refused can be named.
    fn set(&mut self, key: &str, value: &Value, origin: Origin) -> Result<(), ConfigError> {
        let Some(default) = self.defaults.get(key) else {
            return Err(ConfigError::UnknownKey {
                key: key.to_owned(),
                origin,
                hint: hint(nearest(key, self.defaults.keys().map(String::as_str))),
            });
        };
        let wrong = |expected: String| ConfigError::WrongType {
            key: key.to_owned(),
            origin: origin.clone(),
            found: shown(key, value),
            expected,
        };
        if !default.same_type(value) {
            return Err(wrong(expected(default)));
        }
        self.leaves.insert(key.to_owned(), value.clone());
        self.settings =
            Settings::deserialize(fill(&self.template, &self.leaves)).map_err(|error| {
                wrong(format!("{} ({})", expected(default), error.message().trim()))
            })?;
        Ok(())
    }
}

fn hint(nearest: Option<&str>) -> String {
    match nearest {
        Some(name) => format!("did you mean `{name}`?"),
        None => "remove it; config/ottla.toml lists every key".to_owned(),
    }
}

fn expected(default: &Value) -> String {
    let kind = match default {
        Value::Integer(_) => "a whole number",
        Value::Boolean(_) => return "true or false".to_owned(),
        Value::String(_) => "a text in quotes",
        Value::Float(_) => "a number",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    };
    match default {
        Value::String(text) if text.is_empty() => kind.to_owned(),
        other => format!("{kind} such as {other}"),
    }
}

fn shown(key: &str, value: &Value) -> String {
    if crate::show::SECRETS.contains(&key) {
        "not shown here".to_owned()
    } else {
        value.to_string()
    }
}

/// A secret is a value, or better the content of a file, such as a systemd credential.
fn secret(value: &str, file: &Path) -> Result<String, ConfigError> {
    if file.as_os_str().is_empty() {
        return Ok(value.to_owned());
    }
    let text = std::fs::read_to_string(file).map_err(|cause| ConfigError::Refused {
        key: "mail.url_file",
        found: file.display().to_string(),
        advice: format!("it cannot be read ({cause}), so check the path and who may read it"),
    })?;
    mail_url(text.trim())?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests;
