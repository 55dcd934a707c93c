//! `DescribeConfigs` v0-4. v1: sources and synonyms; v3: types and documentation; v4: flexible.
//! Version 0 is that of sarama with an old `Config.Version`.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{ApiKey, DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;
use storage::Catalogue;
use wire::{ErrorCode, legacy};

use crate::configs::{self, ConfigType, DYNAMIC_BROKER_CONFIGS, Source, TOPIC_CONFIGS};
use crate::context::Context;
use crate::dispatch::{Api, Body, Failure, Piece, Reply, Request};
use crate::once::once;
use crate::refusal::Refusal;

pub(crate) const API: Api = Api {
    key: ApiKey::DescribeConfigs,
    accepted: (0, 4),
    advertised: (0, 4),
    handle: |ctx, request| Box::pin(async move { handle(ctx, &request) }),
};

/// The kinds of resources, as the protocol numbers them.
pub(crate) const TOPIC: i8 = 2;
pub(crate) const BROKER: i8 = 4;

const TYPE_VERSION: i16 = 3;

fn handle(ctx: &mut Context, request: &Request) -> Result<Reply, Failure> {
    let version = request.version;
    let asked: DescribeConfigsRequest = if version == 0 {
        legacy::describe_configs_request(&request.body).ok_or(Failure::Malformed)?
    } else {
        request.decode()?
    };
    let catalogue = ctx.broker.storage.catalogue();
    let mut response = DescribeConfigsResponse::default();
    let named = |one: &&DescribeConfigsResource| (one.resource_type, one.resource_name.clone());
    for resource in once(&asked.resources, named) {
        let mut result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone())
            .with_error_message(None);
        match rows(ctx, &catalogue, resource) {
            Ok(rows) => {
                let wanted = |row: &Row| match &resource.configuration_keys {
                    Some(keys) if !keys.is_empty() => {
                        keys.iter().any(|key| key.as_str() == row.name)
                    }
                    _ => true,
                };
                let shown = rows.into_iter().filter(wanted);
                result.configs =
                    shown.map(|row| row.shown(version, asked.include_synonyms)).collect();
            }
            Err(refusal) => {
                result.error_code = refusal.code.0;
                result.error_message = refusal.message();
            }
        }
        response.results.push(result);
    }
    if version == 0 {
        let body = legacy::describe_configs_response(&response).ok_or(Failure::Unencodable)?;
        return Ok(Reply::Now(Body(vec![Piece::Bytes(body)])));
    }
    request.reply(&response)
}

/// One configuration with all the values it has.
struct Row {
    name: &'static str,
    kind: ConfigType,
    read_only: bool,
    /// The value that holds; the first of `values` may have it in another unit.
    value: String,
    values: Vec<configs::Shown>,
}

fn rows(
    ctx: &Context,
    catalogue: &Catalogue,
    resource: &DescribeConfigsResource,
) -> Result<Vec<Row>, Refusal> {
    match resource.resource_type {
        TOPIC => {
            let topic = ctx.topic_named(catalogue, &resource.resource_name)?;
            let written = &ctx.broker.config.static_configs;
            let row = |config: &configs::TopicConfig| {
                let (value, values) = config.of_topic(catalogue, written, &topic.configs);
                Row { name: config.name, kind: config.kind, read_only: false, value, values }
            };
            Ok(TOPIC_CONFIGS.iter().map(row).collect())
        }
        BROKER => {
            check_broker(ctx, &resource.resource_name)?;
            let is_default = resource.resource_name.is_empty();
            Ok(broker_rows(ctx, catalogue, is_default))
        }
        _ => {
            Err(Refusal::new(ErrorCode::INVALID_REQUEST, "topics and brokers have configurations"))
        }
    }
}

/// Accepts this broker's own id, and the empty name that stands for all brokers.
pub(crate) fn check_broker(ctx: &Context, name: &str) -> Result<(), Refusal> {
    if name.is_empty() || name == ctx.broker.config.node_id.to_string() {
        return Ok(());
    }
    let text = format!("this is broker {}, there is no other", ctx.broker.config.node_id);
    Err(Refusal::new(ErrorCode::INVALID_REQUEST, text))
}

/// The default for all brokers shows only what was set for it, as Kafka does.
fn broker_rows(ctx: &Context, catalogue: &Catalogue, is_default: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for config in TOPIC_CONFIGS {
        let Some(name) = config.synonym else { continue };
        let (value, mut values) = config.of_broker(catalogue, &ctx.broker.config.static_configs);
        if is_default {
            values.retain(|(_, _, source)| *source == Source::DynamicDefaultBroker);
        }
        let read_only = !DYNAMIC_BROKER_CONFIGS.contains(&name);
        rows.push(Row { name, kind: config.kind, read_only, value, values });
    }
    if !is_default {
        for (name, kind, value, source) in configs::broker_configs(&ctx.broker.config) {
            let values = vec![(name, value.clone(), source)];
            rows.push(Row { name, kind, read_only: true, value, values });
        }
    }
    rows.retain(|row| !row.values.is_empty());
    rows.sort_by_key(|row| row.name);
    rows
}

impl Row {
    fn shown(self, version: i16, with_synonyms: bool) -> DescribeConfigsResourceResult {
        let source = self.values.first().map_or(Source::Default, |(_, _, source)| *source);
        let mut shown = DescribeConfigsResourceResult::default()
            .with_name(StrBytes::from_static_str(self.name))
            .with_value(Some(StrBytes::from_string(self.value)))
            .with_read_only(self.read_only)
            .with_config_source(source.code())
            .with_documentation(None);
        if with_synonyms {
            let synonym = |(name, value, source): (&'static str, String, Source)| {
                DescribeConfigsSynonym::default()
                    .with_name(StrBytes::from_static_str(name))
                    .with_value(Some(StrBytes::from_string(value)))
                    .with_source(source.code())
            };
            shown.synonyms = self.values.into_iter().map(synonym).collect();
        }
        if version >= TYPE_VERSION {
            shown.config_type = self.kind.code();
        }
        shown
    }
}
