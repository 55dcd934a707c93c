//! Mails as files, where no server is configured.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::mail::Delivery;
use crate::mail::compose::Composed;
use crate::model::mail::Outcome;

/// A directory with one `.eml` file per mail. A file that has its name is whole and synced.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    directory: PathBuf,
}

impl Outbox {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Whether the mail arrived here; decides about an attempt whose end is not known.
    pub(crate) async fn has(&self, file_name: &str) -> bool {
        let path = self.path(file_name);
        tokio::task::spawn_blocking(move || path.is_file()).await.unwrap_or(false)
    }

    pub(crate) async fn remove(&self, file_name: &str) -> io::Result<()> {
        let path = self.path(file_name);
        let removed = tokio::task::spawn_blocking(move || fs::remove_file(path)).await;
        match removed.map_err(io::Error::other)? {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(crate) fn path(&self, file_name: &str) -> PathBuf {
        self.directory.join(file_name)
    }

    pub(crate) async fn deliver(&self, mail: &Composed) -> Delivery {
        let bytes = mail.message.formatted();
        let (directory, name) = (self.directory.clone(), mail.file_name.clone());
        let written = tokio::task::spawn_blocking(move || write(&directory, &name, &bytes)).await;
        match written.map_err(io::Error::other).and_then(|written| written) {
            Ok(()) => {
                kit::failpoint!("smtp250");
                Delivery { outcome: Outcome::Accepted, server_works: true }
            }
            Err(error) => Delivery {
                outcome: Outcome::Later(format!("the outbox cannot be written: {error}")),
                server_works: false,
            },
        }
    }
}

fn write(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let unfinished = directory.join(format!(".{name}.part"));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, directory.join(name))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::compose::tests::composer;
    use crate::model::mail::tests::mail;

    #[tokio::test]
    async fn a_mail_is_one_whole_file_named_after_event_and_person() {
        let directory = tempfile::tempdir().unwrap();
        let outbox = Outbox::new(directory.path().join("outbox"));
        let composed = composer().compose(&mail()).unwrap();
        assert!(!outbox.has("01J-7.eml").await);
        for _ in 0..2 {
            let delivery = outbox.deliver(&composed).await;
            assert_eq!(delivery, Delivery { outcome: Outcome::Accepted, server_works: true });
        }
        assert!(outbox.has("01J-7.eml").await);
        let names: Vec<_> = fs::read_dir(directory.path().join("outbox"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["01J-7.eml"]);
        assert_eq!(fs::read(outbox.path("01J-7.eml")).unwrap(), composed.message.formatted());
        outbox.remove("01J-7.eml").await.unwrap();
        outbox.remove("01J-7.eml").await.unwrap();
        assert!(!outbox.has("01J-7.eml").await);
    }

    #[tokio::test]
    async fn an_outbox_that_cannot_be_written_is_tried_again_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("outbox");
        fs::write(&path, "a file in its place").unwrap();
        let delivery = Outbox::new(path).deliver(&composer().compose(&mail()).unwrap()).await;
        assert!(matches!(delivery.outcome, Outcome::Later(_)), "{delivery:?}");
        assert!(!delivery.server_works);
    }
}
