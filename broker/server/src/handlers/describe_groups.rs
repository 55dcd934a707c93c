//! `DescribeGroups` v0-6. v3: authorized operations; v4: instance ids; v5: flexible; v6: an
//! unknown group is an error, before it is a dead group.

use coordinator::groups::DescribedGroup as Found;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{ApiKey, DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;
use wire::ErrorCode;

use crate::cluster;
use crate::context::Context;
use crate::coordinator_task::Plan;
use crate::dispatch::{Api, Failure, Reply, Request};
use crate::once::once;

pub(crate) const API: Api = Api {
    key: ApiKey::DescribeGroups,
    accepted: (0, 6),
    advertised: (0, 6),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

const FIRST_WITH_AUTHORIZED_OPERATIONS: i16 = 3;
const FIRST_WITH_GROUP_ID_NOT_FOUND: i16 = 6;
/// Read, delete, describe, as bits.
const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8;

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let mut asked: DescribeGroupsRequest = request.decode()?;
    asked.groups = once(asked.groups, Clone::clone);
    let version = request.version;
    let allowed: Vec<bool> =
        asked.groups.iter().map(|id| ctx.broker.authorizer.allows(ctx.principal, id)).collect();
    let ids: Vec<String> = asked.groups.iter().map(|id| id.to_string()).collect();
    let held = ctx.broker.coordinator.call(move |groups, _, _| {
        let found = ids.iter().map(|id| groups.describe_group(id)).collect();
        Plan::<Vec<Option<Found>>>::only(found)
    });
    let operations =
        if asked.include_authorized_operations { GROUP_OPERATIONS } else { cluster::NOT_ASKED };
    Ok(held.await.reply(version, move |found| {
        let mut found = found.map(Vec::into_iter);
        let groups = asked.groups.into_iter().zip(allowed).map(|(group_id, allowed)| {
            let outcome = match &mut found {
                Err(error) => Err(*error),
                Ok(found) => Ok(found.next().flatten()),
            };
            let group = match outcome {
                _ if !allowed => refusal(ErrorCode::GROUP_AUTHORIZATION_FAILED),
                Err(error) => refusal(error),
                Ok(None) => unknown(&group_id, version),
                Ok(Some(found)) => describe(found),
            };
            if version >= FIRST_WITH_AUTHORIZED_OPERATIONS {
                group.with_group_id(group_id).with_authorized_operations(operations)
            } else {
                group.with_group_id(group_id)
            }
        });
        DescribeGroupsResponse::default().with_groups(groups.collect())
    }))
}

fn refusal(error: ErrorCode) -> DescribedGroup {
    DescribedGroup::default().with_error_code(error.0)
}

fn unknown(group_id: &GroupId, version: i16) -> DescribedGroup {
    let dead = DescribedGroup::default().with_group_state(StrBytes::from_static_str("Dead"));
    if version < FIRST_WITH_GROUP_ID_NOT_FOUND {
        return dead;
    }
    let message = format!("Group {} not found.", group_id.as_str());
    dead.with_error_code(ErrorCode::GROUP_ID_NOT_FOUND.0)
        .with_error_message(Some(StrBytes::from_string(message)))
}

fn describe(found: Found) -> DescribedGroup {
    let text = StrBytes::from_string;
    let members = found.members.into_iter().map(|member| {
        DescribedGroupMember::default()
            .with_member_id(text(member.member_id))
            .with_group_instance_id(member.group_instance_id.map(text))
            .with_client_id(text(member.client_id))
            .with_client_host(text(member.client_host))
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment)
    });
    DescribedGroup::default()
        .with_group_state(StrBytes::from_static_str(found.phase.name()))
        .with_protocol_type(text(found.protocol_type))
        .with_protocol_data(text(found.protocol))
        .with_members(members.collect())
}
