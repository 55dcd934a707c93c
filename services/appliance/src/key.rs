//! The key by which the services prove to auth and to the broker that they are services.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use config::Settings;

use crate::Failure;

/// 32 random bytes, written as hexadecimal digits.
const KEY_BYTES: usize = 32;

/// The key of the services that these settings are for.
pub(crate) fn of_services(settings: &Settings) -> Result<String, Failure> {
    let file = &settings.services.key_file;
    if file.as_os_str().is_empty() {
        read_or_make(&settings.data_dir.join("service.key"))
    } else {
        read_or_make(file)
    }
}

/// Reads the key, or makes it: 0600 and random, written beside its place first, so that a crash leaves all or nothing.
fn read_or_make(path: &Path) -> Result<String, Failure> {
    match File::open(path) {
        Ok(file) => read(path, file),
        Err(error) if error.kind() == ErrorKind::NotFound => make(path),
        Err(error) => Err(refused(path, &error)),
    }
}

fn read(path: &Path, mut file: File) -> Result<String, Failure> {
    let mut key = String::new();
    let mode = file.metadata().map_err(|error| refused(path, &error))?.mode() & 0o077;
    if mode != 0 {
        return Err(Failure::Refused(format!(
            "{path} can be read by others; run `chmod 600 {path}`",
            path = path.display()
        )));
    }
    file.read_to_string(&mut key).map_err(|error| refused(path, &error))?;
    let key = key.trim();
    if key.len() < KEY_BYTES {
        return Err(Failure::Refused(format!(
            "{path} holds no key; remove it and the next start makes a new one",
            path = path.display()
        )));
    }
    Ok(key.to_owned())
}

fn make(path: &Path) -> Result<String, Failure> {
    let mut random = [0; KEY_BYTES];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::Failed(format!("the system gives no random bytes: {error}")))?;
    let digits: Vec<String> = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let key = digits.concat();
    let beside = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(format!("{key}\n").as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    };
    write().map_err(|error| refused(path, &error))?;
    Ok(key)
}

fn refused(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Refused(format!(
        "cannot use the key file {path} ({error}); check who owns it",
        path = path.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_for_the_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("service.key");
        let key = read_or_make(&path).unwrap();
        assert_eq!(key.len(), 64);
        assert_eq!(read_or_make(&path).unwrap(), key);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read_or_make(&path).unwrap_err().to_string().contains("chmod 600"));
    }
}
