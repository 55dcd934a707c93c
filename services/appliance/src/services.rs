//! Each service with its settings.

use std::sync::Arc;
use std::time::Duration;

use config::{Registration, Settings};
use kit::{Secret, ServiceContext, StartError};
use notification::SmtpServer;
use tokio_util::sync::CancellationToken;

use crate::cli::ServiceName;
use crate::supervise::Starter;

const DAY: Duration = Duration::from_hours(24);

/// What all services of one process share.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub brokers: String,
    /// Whether those brokers take the key.
    pub sasl: bool,
    pub service_key: String,
    pub auth_url: String,
}

impl Common {
    fn context(
        &self,
        service: &'static str,
        settings: &Settings,
        stop: CancellationToken,
    ) -> ServiceContext {
        ServiceContext {
            service,
            brokers: self.brokers.clone(),
            service_key: Secret::new(self.service_key.clone()),
            broker_takes_key: self.sasl,
            data_dir: settings.data_dir.join("services").join(service),
            auth_url: self.auth_url.clone(),
            clock: Arc::new(kit::clock::SystemClock),
            stop,
        }
    }
}

pub(crate) fn starter(service: ServiceName, settings: &Settings, common: &Common) -> Starter {
    let (settings, common) = (settings.clone(), common.clone());
    Box::new(move |stop| {
        let context = common.context(service.as_str(), &settings, stop);
        match service {
            ServiceName::Auth => Box::pin(auth::start(context, auth_config(&settings))),
            ServiceName::Task => Box::pin(task::start(context)),
            ServiceName::Notification => {
                let config = notification_config(&settings);
                Box::pin(async move { notification::start(context, config?).await })
            }
        }
    })
}

fn auth_config(settings: &Settings) -> auth::Config {
    let chars = settings.auth.password_min_chars;
    auth::Config {
        registration: match settings.auth.registration {
            Registration::Open => auth::Registration::Open,
            Registration::Invite => auth::Registration::Invite,
            Registration::Closed => auth::Registration::Closed,
        },
        password_min_chars: if chars == 0 { None } else { Some(chars) },
        // The configuration refuses every other listener.
        loopback_only: true,
        session_idle: DAY * settings.auth.session_idle_days,
        session_longest: DAY * settings.auth.session_longest_days,
        ..auth::Config::default()
    }
}

fn notification_config(settings: &Settings) -> Result<notification::Config, StartError> {
    let url = &settings.mail.url;
    let smtp = if url.is_empty() { None } else { Some(SmtpServer::parse(url)) };
    Ok(notification::Config {
        group: settings.notification.group.clone(),
        public_url: settings.http.public_url.clone(),
        from: settings.mail.from.clone(),
        smtp: smtp.transpose().map_err(|error| StartError::Other(format!("mail.url: {error}")))?,
        outbox: settings.data_dir.join("outbox"),
        smtp_timeout: Duration::from_secs(settings.mail.timeout_seconds.into()),
        kept_entries: settings.notification.kept_entries,
    })
}
