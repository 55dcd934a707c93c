use toml::{Table, Value};

use crate::leaves::flatten;
use crate::settings::Settings;

/// Keys whose values are never printed.
pub(crate) const SECRETS: &[&str] = &["mail.url"];

/// The settings as one `key = value` per line, readable as a configuration file, secrets replaced.
pub fn show(settings: &Settings) -> String {
    let leaves = Table::try_from(settings).map(|table| flatten(&table)).unwrap_or_default();
    let lines: Vec<String> = leaves
        .into_iter()
        .map(|(key, value)| {
            let set = value.as_str().is_some_and(|text| !text.is_empty());
            let value = if SECRETS.contains(&key.as_str()) && set {
                Value::String("(set, not shown)".to_owned())
            } else {
                value
            };
            format!("{key} = {value}\n")
        })
        .collect();
    lines.concat()
}
