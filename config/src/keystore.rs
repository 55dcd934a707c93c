use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use server::{Keystore, KeystoreError};

use crate::check::ConfigError;
use crate::settings::Settings;

const KEY: &str = "broker.ssl.keystore.location";

/// More than any chain of certificates has.
const KEYSTORE_MAX_BYTES: u64 = 1 << 20;

/// What the mode of a file says of everybody but its owner.
const OTHERS: u32 = 0o077;

/// Reads what a listener with TLS shows its clients, if there is to be one in this process.
/// systemd lets the service alone into the directory of its `credentials`, whatever the mode of a
/// file in it is.
pub(crate) fn read(
    settings: &Settings,
    credentials: Option<&Path>,
) -> Result<Option<Keystore>, ConfigError> {
    let path = settings.broker.ssl_keystore_location.as_path();
    if settings.broker.listeners.ssl.is_none() || !settings.services.brokers.is_empty() {
        return Ok(None);
    }
    if path.as_os_str().is_empty() {
        let advice = "broker.listeners has an SSL listener, so write the path of a PEM file with \
                      a private key and its certificates, or take SSL:// out of the listeners";
        return Err(refused("empty", advice.to_owned()));
    }
    let found = path.display().to_string();
    let unreadable = |cause: std::io::Error| {
        let advice = format!("it cannot be read ({cause}), so check the path and who may read it");
        refused(&found, advice)
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    let is_credential = credentials.is_some_and(|directory| path.starts_with(directory));
    if mode & OTHERS != 0 && !is_credential {
        let advice = format!(
            "others than its owner may read or change it (mode {:04o}), so run chmod 600 {found}",
            mode & 0o7777
        );
        return Err(refused(&found, advice));
    }
    let mut pem = Vec::new();
    file.by_ref().take(KEYSTORE_MAX_BYTES).read_to_end(&mut pem).map_err(unreadable)?;
    match Keystore::from_pem(&pem) {
        Ok(keystore) => Ok(Some(keystore)),
        Err(why) => Err(refused(&found, format!("{why}, so {}", remedy(&why)))),
    }
}

fn remedy(why: &KeystoreError) -> &'static str {
    match why {
        KeystoreError::Encrypted => {
            "write it without one (openssl pkey -in FILE) and let the file's mode guard it"
        }
        KeystoreError::Pem(_)
        | KeystoreError::NoCertificate
        | KeystoreError::NoKey
        | KeystoreError::Unfit(_) => {
            "put into this one file a private key and the PEM certificates that belong to it, the \
             server's own first"
        }
    }
}

fn refused(found: &str, advice: String) -> ConfigError {
    ConfigError::Refused { key: KEY, found: found.to_owned(), advice }
}
