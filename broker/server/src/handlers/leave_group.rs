//! `LeaveGroup` v0-5. v3: many members, also by instance id (KIP-345); v4: flexible; v5: reason.

use coordinator::groups::{LeaveGroupRequest as Leave, LeftMember, MemberIdentity};
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{ApiKey, LeaveGroupRequest, LeaveGroupResponse};
use kafka_protocol::protocol::StrBytes;
use wire::ErrorCode;

use crate::context::Context;
use crate::dispatch::{Api, Failure, Reply, Request};

pub(crate) const API: Api = Api {
    key: ApiKey::LeaveGroup,
    accepted: (0, 5),
    advertised: (0, 5),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

const FIRST_WITH_MANY_MEMBERS: i16 = 3;

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let asked: LeaveGroupRequest = request.decode()?;
    if !ctx.broker.authorizer.allows(ctx.principal, &asked.group_id) {
        return request.reply(&refusal(ErrorCode::GROUP_AUTHORIZATION_FAILED));
    }
    let version = request.version;
    let members = if version >= FIRST_WITH_MANY_MEMBERS {
        let identity = |member: kafka_protocol::messages::leave_group_request::MemberIdentity| {
            MemberIdentity {
                member_id: member.member_id.to_string(),
                group_instance_id: member.group_instance_id.map(|id| id.to_string()),
            }
        };
        asked.members.into_iter().map(identity).collect()
    } else {
        vec![MemberIdentity { member_id: asked.member_id.to_string(), group_instance_id: None }]
    };
    let leave = Leave { group_id: asked.group_id.to_string(), members };
    let plan = ctx.broker.coordinator.call(move |groups, _, now| groups.leave_group(now, &leave));
    Ok(plan.await.reply(version, move |left| match left.and_then(|left| left) {
        Ok(left) => response(left, version),
        Err(error) => refusal(error),
    }))
}

/// Old clients leave alone, and are told in the response's own error.
fn response(left: Vec<LeftMember>, version: i16) -> LeaveGroupResponse {
    if version < FIRST_WITH_MANY_MEMBERS {
        return refusal(left.first().map_or(ErrorCode::NONE, |member| member.error));
    }
    let members = left.into_iter().map(|left| {
        MemberResponse::default()
            .with_member_id(StrBytes::from_string(left.member.member_id))
            .with_group_instance_id(left.member.group_instance_id.map(StrBytes::from_string))
            .with_error_code(left.error.0)
    });
    LeaveGroupResponse::default().with_members(members.collect())
}

fn refusal(error: ErrorCode) -> LeaveGroupResponse {
    LeaveGroupResponse::default().with_error_code(error.0)
}
