//! A mail server for tests, a process of its own. `smtp-server DIRECTORY [PORT]` prints its port, then serves.
//!
//! The recipient's address up to its first dot says what becomes of a mail:
//! - `refuse` is answered 550, `busy` 451, `busy1` to `busy9` 451 so many times and then taken;
//! - `stall` gets no answer to its message, which is not kept; `drop` is kept, and the line dropped before the answer;
//!   `lose` the same, but not kept;
//! - everything else is kept as `DIRECTORY/<n>-<recipient>.eml` before it is answered 250.
//!
//! A file `DIRECTORY/behaviour` changes it for all: `refuse` greets with 554, `close` hangs up at once, `stall` says
//! nothing at all.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A line or a mail beyond these is none of ours.
const LINE_BYTES: u64 = 8 * 1024;
const MAIL_BYTES: usize = 1024 * 1024;

struct Server {
    directory: PathBuf,
    kept: AtomicU32,
    /// How often each recipient was told to come later.
    postponed: Mutex<HashMap<String, u32>>,
}

/// What becomes of one mail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Keep,
    Refuse,
    Busy,
    Stall,
    KeepAndDrop,
    Drop,
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or_else(|| io::Error::other("no directory given"))?;
    let port = arguments.next().unwrap_or_else(|| "0".to_owned());
    fs::create_dir_all(&directory)?;
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))?;
    let server = Arc::new(Server {
        directory: PathBuf::from(directory),
        kept: AtomicU32::new(0),
        postponed: Mutex::default(),
    });
    writeln!(io::stdout(), "{}", listener.local_addr()?.port())?;
    io::stdout().flush()?;
    for stream in listener.incoming() {
        let (server, stream) = (Arc::clone(&server), stream?);
        std::thread::spawn(move || {
            if let Err(error) = server.serve(stream) {
                report(&error);
            }
        });
    }
    Ok(())
}

/// Clients hang up as they like; it is worth a line and nothing else.
fn report(error: &io::Error) {
    if writeln!(io::stderr(), "smtp-server: {error}").is_err() {
        std::process::exit(1);
    }
}

impl Server {
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut lines = Lines(BufReader::new(stream.try_clone()?));
        let behaviour = fs::read_to_string(self.directory.join("behaviour")).unwrap_or_default();
        match behaviour.trim() {
            "close" => return Ok(()),
            "refuse" => return say(&mut stream, "554 not today"),
            "stall" => return lines.until_the_end(),
            _ => say(&mut stream, "220 smtp-server of the tests")?,
        }
        let mut recipient = String::new();
        while let Some(line) = lines.next()? {
            let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" => say(&mut stream, "250-smtp-server\r\n250 8BITMIME")?,
                "HELO" | "MAIL" | "NOOP" | "RSET" => say(&mut stream, "250 ok")?,
                "RCPT" => {
                    address(&line).clone_into(&mut recipient);
                    match self.fate(&recipient) {
                        Fate::Refuse => say(&mut stream, "550 5.1.1 nobody of that name")?,
                        Fate::Busy => say(&mut stream, "451 4.3.0 come back later")?,
                        _ => say(&mut stream, "250 ok")?,
                    }
                }
                "DATA" => {
                    say(&mut stream, "354 go on")?;
                    let mail = lines.message()?;
                    match self.fate(&recipient) {
                        Fate::Stall => return lines.until_the_end(),
                        Fate::Drop => return Ok(()),
                        Fate::KeepAndDrop => return self.keep(&recipient, &mail),
                        _ => self.keep(&recipient, &mail)?,
                    }
                    say(&mut stream, "250 2.0.0 taken")?;
                }
                "QUIT" => return say(&mut stream, "221 bye"),
                _ => say(&mut stream, "502 5.5.1 unknown command")?,
            }
        }
        Ok(())
    }

    fn fate(&self, recipient: &str) -> Fate {
        match recipient.split(['.', '@']).next().unwrap_or_default() {
            "refuse" => Fate::Refuse,
            "busy" => Fate::Busy,
            "stall" => Fate::Stall,
            "drop" => Fate::KeepAndDrop,
            "lose" => Fate::Drop,
            other => match other.strip_prefix("busy").and_then(|times| times.parse().ok()) {
                Some(times) => self.postpone(recipient, times),
                None => Fate::Keep,
            },
        }
    }

    fn postpone(&self, recipient: &str, times: u32) -> Fate {
        let mut postponed = self.postponed.lock().unwrap_or_else(PoisonError::into_inner);
        let so_far = postponed.entry(recipient.to_owned()).or_default();
        if *so_far >= times {
            return Fate::Keep;
        }
        *so_far += 1;
        Fate::Busy
    }

    fn keep(&self, recipient: &str, mail: &[u8]) -> io::Result<()> {
        let number = self.kept.fetch_add(1, Ordering::Relaxed);
        let name = format!("{number:05}-{}.eml", recipient.replace('/', "_"));
        write_whole(&self.directory.join(name), mail)
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("part");
    fs::write(&unfinished, bytes)?;
    fs::rename(unfinished, path)
}

fn say(stream: &mut TcpStream, line: &str) -> io::Result<()> {
    stream.write_all(format!("{line}\r\n").as_bytes())
}

fn address(line: &str) -> &str {
    let inner = line.split_once('<').map_or("", |(_, rest)| rest);
    inner.split_once('>').map_or("", |(address, _)| address)
}

struct Lines(BufReader<TcpStream>);

impl Lines {
    fn next(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        let read = io::Read::take(&mut self.0, LINE_BYTES).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(None);
        }
        if !line.ends_with(b"\n") {
            return Err(io::Error::other("a line without an end"));
        }
        Ok(Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()))
    }

    fn message(&mut self) -> io::Result<Vec<u8>> {
        let mut mail = Vec::new();
        while mail.len() < MAIL_BYTES {
            let line = self.next()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if line == "." {
                return Ok(mail);
            }
            let line = line.strip_prefix('.').unwrap_or(&line);
            mail.extend_from_slice(line.as_bytes());
            mail.extend_from_slice(b"\r\n");
        }
        Err(io::Error::other("a mail without an end"))
    }

    fn until_the_end(&mut self) -> io::Result<()> {
        while self.next()?.is_some() {}
        Ok(())
    }
}
