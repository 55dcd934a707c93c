//! One attempt over SMTP, step by step: only so is it known whether a failed attempt may have arrived.

use std::borrow::Cow;
use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use percent_encoding::percent_decode_str;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::mail::Delivery;
use crate::mail::compose::Composed;
use crate::model::mail::Outcome;

/// The server's code for "not serving at the moment".
const NOT_SERVING: u16 = 421;

/// A server may take so long to say goodbye.
const FAREWELL: Duration = Duration::from_millis(200);

/// How long a stop waits for the answer to a message that was sent already.
const STOP_GRACE: Duration = Duration::from_millis(200);

/// The mail server of `[mail] url`.
#[derive(Clone, Debug)]
pub struct SmtpServer {
    host: String,
    port: u16,
    /// TLS from the first byte; otherwise by STARTTLS if the server offers it.
    tls: bool,
    login: Option<Credentials>,
}

/// Why a URL does not name a mail server. The URL itself is not repeated: it has a password in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SmtpUrlError {
    #[error(
        "it is no URL; write smtp://user:password@host:port or smtps://user:password@host:port"
    )]
    NoUrl,
    #[error("it begins with another scheme than smtp:// or smtps://")]
    Scheme,
    #[error("it names no host")]
    Host,
    #[error(
        "it has a path, query or fragment, which mean nothing here; write %2F, %3F or %23 in a password"
    )]
    Path,
    #[error("user and password must both be there or both be absent, in UTF-8")]
    Login,
}

impl SmtpServer {
    /// Reads `smtp[s]://user:password@host:port`; user and password are percent-encoded, the port is 25, or 587 with
    /// a user, or 465 with TLS, if it is left out.
    pub fn parse(url: &str) -> Result<Self, SmtpUrlError> {
        let url = Url::parse(url).map_err(|_malformed| SmtpUrlError::NoUrl)?;
        let tls = match url.scheme() {
            "smtp" => false,
            "smtps" => true,
            _ => return Err(SmtpUrlError::Scheme),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(SmtpUrlError::Host)?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(SmtpUrlError::Path);
        }
        let decode = |text: &str| {
            let decoded = percent_decode_str(text).decode_utf8();
            decoded.map(Cow::into_owned).map_err(|_not_utf8| SmtpUrlError::Login)
        };
        let login = match (url.username(), url.password()) {
            ("", None) => None,
            ("", Some(_)) | (_, None) => return Err(SmtpUrlError::Login),
            (user, Some(password)) => Some(Credentials::new(decode(user)?, decode(password)?)),
        };
        let usual_port = match (tls, &login) {
            (true, _) => 465,
            (false, Some(_)) => 587,
            (false, None) => 25,
        };
        Ok(Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port().unwrap_or(usual_port),
            tls,
            login,
        })
    }

    fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// Delivers to one server; each attempt has a connection of its own.
#[derive(Debug)]
pub(crate) struct Smtp {
    server: SmtpServer,
    /// For each answer of the server.
    answer_timeout: Duration,
}

/// A step that failed.
#[derive(Debug)]
enum Failure {
    Smtp(Error),
    NoAnswer,
    /// A password is not sent to another machine in the clear.
    PasswordInTheClear,
    /// The service stops.
    Stopped,
    /// The mail needs an extension that the server lacks.
    Extension(&'static str),
}

impl Smtp {
    pub(crate) fn new(server: SmtpServer, answer_timeout: Duration) -> Self {
        Self { server, answer_timeout }
    }

    pub(crate) async fn deliver(&self, mail: &Composed, stop: &CancellationToken) -> Delivery {
        let bytes = mail.message.formatted();
        let offered = async {
            let mut connection = self.connect().await.map_err(|failure| unusable(&failure))?;
            let offered = self.offer(&mut connection, mail, &bytes).await;
            offered.map_err(|failure| judge_before_message(&failure))?;
            Ok(connection)
        };
        // Until the message itself is sent an attempt can be broken off without doubt about it.
        let offered = tokio::select! {
            offered = offered => offered,
            () = stop.cancelled() => Err(unusable(&Failure::Stopped)),
        };
        let mut connection = match offered {
            Ok(connection) => connection,
            Err(delivery) => return delivery,
        };
        let end = tokio::select! {
            end = self.answer(connection.message(&bytes)) => end.map(|_| ()),
            () = grace(stop) => Err(Failure::Stopped),
        };
        let delivery = judge_end(end);
        if delivery.outcome == Outcome::Accepted {
            kit::failpoint!("smtp250");
        }
        // The mail's fate is known by now; how the server takes leave does not matter.
        if !stop.is_cancelled() {
            let _left = tokio::time::timeout(FAREWELL, connection.abort()).await;
        }
        delivery
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Failure> {
        let SmtpServer { host, port, tls, login } = &self.server;
        let name = ClientId::default();
        let parameters = || TlsParameters::new(host.clone());
        let implicit = if *tls { Some(parameters()?) } else { None };
        let address = (host.as_str(), *port);
        let connecting = AsyncSmtpConnection::connect_tokio1(
            address,
            Some(self.answer_timeout),
            &name,
            implicit,
            None,
        );
        let mut connection = self.answer(connecting).await?;
        if connection.can_starttls() && !self.server.is_loopback() {
            self.answer(connection.starttls(parameters()?, &name)).await?;
        }
        if let Some(login) = login {
            if !connection.is_encrypted() && !self.server.is_loopback() {
                return Err(Failure::PasswordInTheClear);
            }
            self.answer(connection.auth(DEFAULT_MECHANISMS, login)).await?;
        }
        Ok(connection)
    }

    /// Everything up to the server's leave to send the message.
    async fn offer(
        &self,
        connection: &mut AsyncSmtpConnection,
        mail: &Composed,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        let envelope = mail.message.envelope();
        let mut parameters = Vec::new();
        let mut addresses = envelope.to().iter().chain(envelope.from());
        if addresses.any(|address| !AsRef::<str>::as_ref(address).is_ascii()) {
            if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
                return Err(Failure::Extension("SMTPUTF8"));
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        if !bytes.is_ascii() {
            if !connection.server_info().supports_feature(Extension::EightBitMime) {
                return Err(Failure::Extension("8BITMIME"));
            }
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        let sender = Mail::new(envelope.from().cloned(), parameters);
        self.answer(connection.command(sender)).await?;
        for to in envelope.to() {
            self.answer(connection.command(Rcpt::new(to.clone(), Vec::new()))).await?;
        }
        self.answer(connection.command(Data)).await?;
        Ok(())
    }

    async fn answer<T>(&self, step: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
        match tokio::time::timeout(self.answer_timeout, step).await {
            Ok(answer) => answer.map_err(Failure::Smtp),
            Err(_elapsed) => Err(Failure::NoAnswer),
        }
    }
}

async fn grace(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(STOP_GRACE).await;
}

/// The failure is the server's or ours, whatever the mail.
fn unusable(failure: &Failure) -> Delivery {
    let reason = format!("the mail server cannot be used: {}", failure.reason());
    Delivery { outcome: Outcome::Later(reason), server_works: false }
}

/// Nothing of the message was sent, or the server answered that it did not take it: it certainly did not arrive.
fn judge_before_message(failure: &Failure) -> Delivery {
    match failure {
        Failure::Smtp(error) if error.is_permanent() => {
            answered(Outcome::Refused(failure.reason()))
        }
        Failure::Extension(_) => answered(Outcome::Refused(failure.reason())),
        Failure::Smtp(error) if error.is_transient() => Delivery {
            outcome: Outcome::Later(failure.reason()),
            server_works: failure.code() != Some(NOT_SERVING),
        },
        Failure::Smtp(_) | Failure::NoAnswer | Failure::PasswordInTheClear | Failure::Stopped => {
            Delivery { outcome: Outcome::Later(failure.reason()), server_works: false }
        }
    }
}

/// The message has been sent: without an answer nobody knows whether it arrived.
fn judge_end<T>(end: Result<T, Failure>) -> Delivery {
    let Err(failure) = end else {
        return answered(Outcome::Accepted);
    };
    if failure.code().is_some() {
        return judge_before_message(&failure);
    }
    let reason = format!("the server may have taken it: {}", failure.reason());
    Delivery { outcome: Outcome::Unclear(reason), server_works: false }
}

fn answered(outcome: Outcome) -> Delivery {
    Delivery { outcome, server_works: true }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Smtp(error)
    }
}

impl Failure {
    fn code(&self) -> Option<u16> {
        match self {
            Self::Smtp(error) => error.status().map(u16::from),
            Self::NoAnswer | Self::PasswordInTheClear | Self::Stopped | Self::Extension(_) => None,
        }
    }

    fn reason(&self) -> String {
        match self {
            Self::Smtp(error) => error.to_string(),
            Self::NoAnswer => "the server did not answer in time".to_owned(),
            Self::PasswordInTheClear => {
                "the server offers no TLS, and a password is not sent in the clear".to_owned()
            }
            Self::Stopped => "the service stops".to_owned(),
            Self::Extension(name) => format!("the server lacks {name}, which this mail needs"),
        }
    }
}

#[cfg(test)]
mod tests;
