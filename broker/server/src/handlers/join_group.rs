//! `JoinGroup` v0-9. v1: rebalance timeout; v4: members learn their id first; v5: static members
//! (KIP-345); v6: flexible; v7: protocol type; v8: reason; v9: the leader may skip assignment.

use bytes::Bytes;
use coordinator::groups::{JoinGroupRequest as Join, JoinGroupResponse as Joined};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{ApiKey, JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;
use wire::ErrorCode;

use crate::context::Context;
use crate::dispatch::{Api, Failure, Reply, Request};

pub(crate) const API: Api = Api {
    key: ApiKey::JoinGroup,
    accepted: (0, 9),
    advertised: (0, 9),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

const FIRST_WITH_REBALANCE_TIMEOUT: i16 = 1;
const FIRST_WITH_MEMBER_ID_REQUIRED: i16 = 4;
const FIRST_WITH_NULLABLE_PROTOCOL: i16 = 7;
const FIRST_WITH_SKIP_ASSIGNMENT: i16 = 9;

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let asked: JoinGroupRequest = request.decode()?;
    let version = request.version;
    let member_id = asked.member_id.to_string();
    if !ctx.broker.authorizer.allows(ctx.principal, &asked.group_id) {
        let refused = refusal(ErrorCode::GROUP_AUTHORIZATION_FAILED, &member_id, version);
        return request.reply(&refused);
    }
    let rebalance_timeout_ms = if version >= FIRST_WITH_REBALANCE_TIMEOUT {
        asked.rebalance_timeout_ms
    } else {
        asked.session_timeout_ms
    };
    let join = Join {
        group_id: asked.group_id.to_string(),
        member_id: member_id.clone(),
        group_instance_id: asked.group_instance_id.map(|id| id.to_string()),
        client_id: ctx.client_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        client_host: format!("/{}", ctx.peer.ip()),
        session_timeout_ms: asked.session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: asked.protocol_type.to_string(),
        protocols: asked
            .protocols
            .into_iter()
            .map(|protocol| (protocol.name.to_string(), Bytes::copy_from_slice(&protocol.metadata)))
            .collect(),
        requires_known_member_id: version >= FIRST_WITH_MEMBER_ID_REQUIRED,
        supports_skipping_assignment: version >= FIRST_WITH_SKIP_ASSIGNMENT,
        fresh: Uuid::new_v4().to_string(),
    };
    let held = ctx.broker.coordinator.join_group(join).await;
    Ok(held.reply(version, move |joined| match joined {
        Ok(joined) => respond(joined, version),
        Err(error) => refusal(error, &member_id, version),
    }))
}

fn respond(joined: Joined, version: i16) -> JoinGroupResponse {
    let text = StrBytes::from_string;
    let mut response = JoinGroupResponse::default()
        .with_error_code(joined.error.0)
        .with_generation_id(joined.generation_id)
        .with_protocol_name(joined.protocol_name.map(text))
        .with_leader(text(joined.leader))
        .with_skip_assignment(joined.skip_assignment && version >= FIRST_WITH_SKIP_ASSIGNMENT)
        .with_member_id(text(joined.member_id));
    if version >= FIRST_WITH_NULLABLE_PROTOCOL {
        response.protocol_type = joined.protocol_type.map(text);
    } else {
        response.protocol_name.get_or_insert_default();
    }
    response.members = joined
        .members
        .into_iter()
        .map(|member| {
            JoinGroupResponseMember::default()
                .with_member_id(text(member.member_id))
                .with_group_instance_id(member.group_instance_id.map(text))
                .with_metadata(member.metadata)
        })
        .collect();
    response
}

fn refusal(error: ErrorCode, member_id: &str, version: i16) -> JoinGroupResponse {
    let mut response = JoinGroupResponse::default()
        .with_error_code(error.0)
        .with_generation_id(-1)
        .with_protocol_name(None)
        .with_member_id(StrBytes::from_string(member_id.to_owned()));
    if version < FIRST_WITH_NULLABLE_PROTOCOL {
        response.protocol_name = Some(StrBytes::default());
    }
    response
}
