//! `SyncGroup` v0-5. v3: static members (KIP-345); v4: flexible; v5: protocol type and name.

use bytes::Bytes;
use coordinator::groups::{MemberIdentity, SyncGroupRequest as Sync};
use kafka_protocol::messages::{ApiKey, SyncGroupRequest, SyncGroupResponse};
use kafka_protocol::protocol::StrBytes;
use wire::ErrorCode;

use crate::context::Context;
use crate::dispatch::{Api, Failure, Reply, Request};

pub(crate) const API: Api = Api {
    key: ApiKey::SyncGroup,
    accepted: (0, 5),
    advertised: (0, 5),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

const FIRST_WITH_PROTOCOL: i16 = 5;

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let asked: SyncGroupRequest = request.decode()?;
    if !ctx.broker.authorizer.allows(ctx.principal, &asked.group_id) {
        return request.reply(&refusal(ErrorCode::GROUP_AUTHORIZATION_FAILED));
    }
    let has_protocol = asked.protocol_type.is_some() && asked.protocol_name.is_some();
    if request.version >= FIRST_WITH_PROTOCOL && !has_protocol {
        return request.reply(&refusal(ErrorCode::INCONSISTENT_GROUP_PROTOCOL));
    }
    let sync = Sync {
        group_id: asked.group_id.to_string(),
        generation_id: asked.generation_id,
        member: MemberIdentity {
            member_id: asked.member_id.to_string(),
            group_instance_id: asked.group_instance_id.map(|id| id.to_string()),
        },
        protocol_type: asked.protocol_type.map(|name| name.to_string()),
        protocol_name: asked.protocol_name.map(|name| name.to_string()),
        assignments: asked
            .assignments
            .into_iter()
            .map(|assigned| {
                (assigned.member_id.to_string(), Bytes::copy_from_slice(&assigned.assignment))
            })
            .collect(),
    };
    let version = request.version;
    let held = ctx.broker.coordinator.sync_group(sync).await;
    Ok(held.reply(version, move |synced| {
        let synced = match synced {
            Ok(synced) => synced,
            Err(error) => return refusal(error),
        };
        let mut response = SyncGroupResponse::default()
            .with_error_code(synced.error.0)
            .with_assignment(synced.assignment);
        if version >= FIRST_WITH_PROTOCOL {
            response.protocol_type = synced.protocol_type.map(StrBytes::from_string);
            response.protocol_name = synced.protocol_name.map(StrBytes::from_string);
        }
        response
    }))
}

fn refusal(error: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse::default().with_error_code(error.0)
}
