//! `DeleteGroups` v0-2. v2: flexible.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{ApiKey, DeleteGroupsRequest, DeleteGroupsResponse};
use wire::ErrorCode;

use crate::context::Context;
use crate::dispatch::{Api, Failure, Reply, Request, encode};

pub(crate) const API: Api = Api {
    key: ApiKey::DeleteGroups,
    accepted: (0, 2),
    advertised: (0, 2),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let asked: DeleteGroupsRequest = request.decode()?;
    let mut results = Vec::new();
    for group_id in asked.groups_names {
        if !ctx.broker.authorizer.allows(ctx.principal, &group_id) {
            results.push((group_id, Err(ErrorCode::GROUP_AUTHORIZATION_FAILED)));
            continue;
        }
        let id = group_id.to_string();
        let held = ctx.broker.coordinator.call(move |groups, _, _| groups.delete_group(&id)).await;
        results.push((group_id, Ok(held)));
    }
    Ok(Reply::Later(Box::pin(async move {
        let mut response = DeleteGroupsResponse::default();
        for (group_id, outcome) in results {
            let error = match outcome {
                Ok(held) => held.wait().await.unwrap_or_else(|error| error),
                Err(error) => error,
            };
            response.results.push(
                DeletableGroupResult::default().with_group_id(group_id).with_error_code(error.0),
            );
        }
        encode(&response, request.version).map(Some)
    })))
}
