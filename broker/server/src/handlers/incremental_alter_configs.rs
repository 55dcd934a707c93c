//! `IncrementalAlterConfigs` v0-1: sets, deletes, appends to and subtracts from single
//! configurations of a resource. v1: flexible.

use std::collections::{BTreeMap, HashSet};

use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{
    ApiKey, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use wire::ErrorCode;

use crate::alter::{self, Target};
use crate::configs::ConfigType;
use crate::context::Context;
use crate::dispatch::{Api, Failure, Reply, Request};
use crate::refusal::Refusal;

pub(crate) const API: Api = Api {
    key: ApiKey::IncrementalAlterConfigs,
    accepted: (0, 1),
    advertised: (0, 1),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let asked: IncrementalAlterConfigsRequest = request.decode()?;
    let keys = asked.resources.iter().map(|one| (one.resource_type, one.resource_name.as_str()));
    let repeated = alter::repeated(keys);
    let mut response = IncrementalAlterConfigsResponse::default();
    for resource in &asked.resources {
        let key = (resource.resource_type, resource.resource_name.as_str());
        let outcome = if repeated.contains(&key) {
            Err(alter::twice())
        } else {
            alter(ctx, resource, asked.validate_only).await
        };
        let mut result = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone())
            .with_error_message(None);
        if let Err(refusal) = outcome {
            result.error_code = refusal.code.0;
            result.error_message = refusal.message();
        }
        response.responses.push(result);
    }
    request.reply(&response)
}

async fn alter(
    ctx: &Context,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    let target = Target::find(ctx, resource.resource_type, &resource.resource_name)?;
    let mut configs = target.configs();
    let mut seen = HashSet::new();
    for change in &resource.configs {
        if !seen.insert(change.name.as_str()) {
            let text = format!("`{}` is in the request twice", change.name.as_str());
            return Err(Refusal::new(ErrorCode::INVALID_REQUEST, text));
        }
        apply(&target, &mut configs, change)?;
    }
    if validate_only { Ok(()) } else { target.set(ctx, configs).await }
}

fn apply(
    target: &Target,
    configs: &mut BTreeMap<String, String>,
    change: &AlterableConfig,
) -> Result<(), Refusal> {
    let name = change.name.as_str();
    let kind = target.known(name)?;
    let value = match change.config_operation {
        SET => target.checked(name, change.value.as_deref())?,
        DELETE => {
            configs.remove(name);
            return Ok(());
        }
        APPEND | SUBTRACT if kind == ConfigType::List => {
            let operand = change.value.as_deref().unwrap_or_default();
            let current = target.current(name);
            let mut parts: Vec<&str> = split(&current).collect();
            if change.config_operation == APPEND {
                parts
                    .extend(split(operand).filter(|part| !split(&current).any(|old| old == *part)));
            } else {
                parts.retain(|part| !split(operand).any(|gone| gone == *part));
            }
            target.checked(name, Some(&parts.join(",")))?
        }
        APPEND | SUBTRACT => {
            let text = format!("`{name}` is not a list");
            return Err(Refusal::new(ErrorCode::INVALID_CONFIG, text));
        }
        _ => return Err(Refusal::new(ErrorCode::INVALID_REQUEST, "an unknown operation")),
    };
    configs.insert(name.to_owned(), value);
    Ok(())
}

fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|part| !part.is_empty())
}
