//! `AlterConfigs` v0-2: replaces all that is set for a resource. v2: flexible.

use std::collections::BTreeMap;

use kafka_protocol::messages::alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse, ApiKey};

use crate::alter::{self, Target};
use crate::context::Context;
use crate::dispatch::{Api, Failure, Reply, Request};
use crate::refusal::Refusal;

pub(crate) const API: Api = Api {
    key: ApiKey::AlterConfigs,
    accepted: (0, 2),
    advertised: (0, 2),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let asked: AlterConfigsRequest = request.decode()?;
    let keys = asked.resources.iter().map(|one| (one.resource_type, one.resource_name.as_str()));
    let repeated = alter::repeated(keys);
    let mut response = AlterConfigsResponse::default();
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
    let mut configs = BTreeMap::new();
    for config in &resource.configs {
        let value = target.checked(&config.name, config.value.as_deref())?;
        configs.insert(config.name.to_string(), value);
    }
    if validate_only { Ok(()) } else { target.set(ctx, configs).await }
}
