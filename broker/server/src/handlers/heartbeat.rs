//! `Heartbeat` v0-4. v3: static members (KIP-345); v4: flexible.

use coordinator::groups::{HeartbeatRequest as Beat, MemberIdentity};
use kafka_protocol::messages::{ApiKey, HeartbeatRequest, HeartbeatResponse};
use wire::ErrorCode;

use crate::context::Context;
use crate::dispatch::{Api, Failure, Reply, Request};

pub(crate) const API: Api = Api {
    key: ApiKey::Heartbeat,
    accepted: (0, 4),
    advertised: (0, 4),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let asked: HeartbeatRequest = request.decode()?;
    if !ctx.broker.authorizer.allows(ctx.principal, &asked.group_id) {
        return request.reply(&response(ErrorCode::GROUP_AUTHORIZATION_FAILED));
    }
    let beat = Beat {
        group_id: asked.group_id.to_string(),
        generation_id: asked.generation_id,
        member: MemberIdentity {
            member_id: asked.member_id.to_string(),
            group_instance_id: asked.group_instance_id.map(|id| id.to_string()),
        },
    };
    let plan = ctx.broker.coordinator.call(move |groups, _, now| groups.heartbeat(now, &beat));
    Ok(plan.await.reply(request.version, |error| response(error.unwrap_or_else(|error| error))))
}

fn response(error: ErrorCode) -> HeartbeatResponse {
    HeartbeatResponse::default().with_error_code(error.0)
}
