use std::collections::BTreeMap;

use toml::{Table, Value};

/// A tree of tables as a flat map from the path, joined by dots, to the value.
pub(crate) type Leaves = BTreeMap<String, Value>;

/// Tables are flattened, arrays are values. `[broker] num.partitions = 1` and `"num.partitions" = 1` are the same.
pub(crate) fn flatten(table: &Table) -> Leaves {
    let mut leaves = Leaves::new();
    walk(table, "", &mut leaves);
    leaves
}

fn walk(table: &Table, prefix: &str, leaves: &mut Leaves) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => walk(inner, &path, leaves),
            Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Array(_) => {
                leaves.insert(path, value.clone());
            }
        }
    }
}

/// The template's shape with the values of `leaves`.
pub(crate) fn fill(template: &Table, leaves: &Leaves) -> Table {
    fill_at(template, "", leaves)
}

fn fill_at(template: &Table, prefix: &str, leaves: &Leaves) -> Table {
    template
        .iter()
        .map(|(key, value)| {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            let value = match value {
                Value::Table(inner) => Value::Table(fill_at(inner, &path, leaves)),
                other => leaves.get(&path).unwrap_or(other).clone(),
            };
            (key.clone(), value)
        })
        .collect()
}

/// The name by which the environment finds a key: `OTTLA__BROKER__NUM_PARTITIONS` is `broker.num.partitions`.
pub(crate) fn environment_name(path: &str) -> String {
    let (section, key) = match path.split_once('.') {
        Some((section, key)) => (Some(section), key),
        None => (None, path),
    };
    let mut name = "OTTLA__".to_owned();
    if let Some(section) = section {
        name.push_str(&section.to_uppercase());
        name.push_str("__");
    }
    let nested = section == Some("services") && key.contains('.');
    name.push_str(&key.replace('.', if nested { "__" } else { "_" }).to_uppercase());
    name
}

/// The known name that is nearest to a mistyped one, if any is near enough to be meant.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = name.len() / 3 + 1;
    known
        .map(|candidate| (distance(name, candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= limit)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, one row at a time.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, from) in left.chars().enumerate() {
        let mut next = vec![line + 1];
        for ((to, above), diagonal) in right.iter().zip(row.iter().skip(1)).zip(&row) {
            let before = next.last().copied().unwrap_or(usize::MAX - 1);
            next.push((before + 1).min(above + 1).min(diagonal + usize::from(from != *to)));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_finds_its_neighbour_and_a_strange_one_finds_nothing() {
        let known = ["http.listen", "mail.url", "log.level"];
        assert_eq!(nearest("http.lisen", known.into_iter()), Some("http.listen"));
        assert_eq!(nearest("zookeeper.connect", known.into_iter()), None);
    }

    #[test]
    fn environment_names_follow_the_path() {
        assert_eq!(environment_name("data_dir"), "OTTLA__DATA_DIR");
        assert_eq!(environment_name("broker.num.partitions"), "OTTLA__BROKER__NUM_PARTITIONS");
        assert_eq!(environment_name("services.auth.port"), "OTTLA__SERVICES__AUTH__PORT");
    }
}
