//! Changing what is set for a topic or the broker.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use storage::{Catalogue, CatalogueChange, Topic};
use wire::ErrorCode;

use crate::configs::{self, ConfigType, DYNAMIC_BROKER_CONFIGS, TopicConfig};
use crate::context::Context;
use crate::handlers::create_topics::checked_value;
use crate::handlers::describe_configs::{BROKER, TOPIC, check_broker};
use crate::refusal::Refusal;
use crate::topics;

/// The resource whose configurations are to change.
pub(crate) enum Target {
    Topic(Arc<Catalogue>, Arc<Topic>),
    Broker(Arc<Catalogue>),
}

impl Target {
    pub(crate) fn find(ctx: &Context, resource_type: i8, name: &str) -> Result<Self, Refusal> {
        let catalogue = ctx.broker.storage.catalogue();
        match resource_type {
            TOPIC => {
                let topic = ctx.topic_named(&catalogue, name)?;
                if topics::is_internal(&topic.name) {
                    let text = "the coordinators' topics keep their configurations";
                    return Err(Refusal::new(ErrorCode::INVALID_REQUEST, text));
                }
                Ok(Self::Topic(catalogue, topic))
            }
            BROKER => check_broker(ctx, name).map(|()| Self::Broker(catalogue)),
            _ => {
                let text = "topics and brokers have configurations";
                Err(Refusal::new(ErrorCode::INVALID_REQUEST, text))
            }
        }
    }

    /// All that is set for the resource.
    pub(crate) fn configs(&self) -> BTreeMap<String, String> {
        match self {
            Self::Topic(_, topic) => topic.configs.clone(),
            Self::Broker(catalogue) => catalogue.broker_configs.clone(),
        }
    }

    /// The type of a configuration that the resource may have.
    pub(crate) fn known(&self, name: &str) -> Result<ConfigType, Refusal> {
        self.config(name).map(|config| config.kind)
    }

    /// The value that holds now.
    pub(crate) fn current(&self, name: &str) -> String {
        match self {
            Self::Topic(catalogue, topic) => configs::effective(catalogue, topic, name).to_owned(),
            Self::Broker(catalogue) => {
                let default = self.config(name).map_or("", |config| config.default);
                catalogue.broker_config(name).map_or(default, String::as_str).to_owned()
            }
        }
    }

    /// The value, if the resource may have it.
    pub(crate) fn checked(&self, name: &str, value: Option<&str>) -> Result<String, Refusal> {
        checked_value(self.config(name)?.name, value)
    }

    /// Replaces all that is set for the resource.
    pub(crate) async fn set(
        &self,
        ctx: &Context,
        configs: BTreeMap<String, String>,
    ) -> Result<(), Refusal> {
        let change = match self {
            Self::Topic(_, topic) => CatalogueChange::SetConfigs { id: topic.id, configs },
            Self::Broker(_) => CatalogueChange::SetBrokerConfigs { configs },
        };
        topics::change(&ctx.broker.storage, change).await.map_err(topics::error_code)?;
        Ok(())
    }

    fn config(&self, name: &str) -> Result<&'static TopicConfig, Refusal> {
        let found = match self {
            Self::Topic(..) => TopicConfig::find(name),
            Self::Broker(_) if DYNAMIC_BROKER_CONFIGS.contains(&name) => {
                TopicConfig::of_synonym(name)
            }
            Self::Broker(_) => {
                let text = format!("`{name}` cannot be changed while the broker runs");
                return Err(Refusal::new(ErrorCode::INVALID_REQUEST, text));
            }
        };
        found.ok_or_else(|| {
            Refusal::new(ErrorCode::INVALID_CONFIG, format!("`{name}` is not known"))
        })
    }
}

/// Those that come more than once.
pub(crate) fn repeated<T: Eq + Hash + Copy>(keys: impl Iterator<Item = T>) -> HashSet<T> {
    let mut seen = HashSet::new();
    keys.filter(|key| !seen.insert(*key)).collect()
}

/// The answer to a resource that comes more than once.
pub(crate) fn twice() -> Refusal {
    Refusal::new(ErrorCode::INVALID_REQUEST, "the resource is in the request twice")
}
