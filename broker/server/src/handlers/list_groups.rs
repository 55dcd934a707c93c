//! `ListGroups` v0-5. v3: flexible; v4: by state; v5: by type.

use coordinator::groups::ListedGroup as Found;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{ApiKey, GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::context::Context;
use crate::coordinator_task::Plan;
use crate::dispatch::{Api, Failure, Reply, Request};

pub(crate) const API: Api = Api {
    key: ApiKey::ListGroups,
    accepted: (0, 5),
    advertised: (0, 5),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

const FIRST_WITH_STATE: i16 = 4;
const FIRST_WITH_TYPE: i16 = 5;
/// Every group here is of the classic protocol.
const CLASSIC: &str = "classic";

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let asked: ListGroupsRequest = request.decode()?;
    let version = request.version;
    let authorizer = ctx.broker.authorizer.clone();
    let principal = ctx.principal;
    let held = ctx
        .broker
        .coordinator
        .call(|groups, _, _| Plan::<Vec<Found>>::only(groups.list_groups()))
        .await;
    Ok(held.reply(version, move |found| match found {
        Err(error) => ListGroupsResponse::default().with_error_code(error.0),
        Ok(found) => {
            let listed = found
                .into_iter()
                .filter(|group| authorizer.allows(principal, &group.group_id))
                .filter(|group| is_among(&asked.states_filter, group.phase.name()))
                .filter(|_| is_among(&asked.types_filter, CLASSIC))
                .map(|group| list(group, version));
            ListGroupsResponse::default().with_groups(listed.collect())
        }
    }))
}

/// Nothing asked for is everything.
fn is_among(filter: &[StrBytes], name: &str) -> bool {
    filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
}

fn list(found: Found, version: i16) -> ListedGroup {
    let mut group = ListedGroup::default()
        .with_group_id(GroupId(StrBytes::from_string(found.group_id)))
        .with_protocol_type(StrBytes::from_string(found.protocol_type));
    if version >= FIRST_WITH_STATE {
        group.group_state = StrBytes::from_static_str(found.phase.name());
    }
    if version >= FIRST_WITH_TYPE {
        group.group_type = StrBytes::from_static_str(CLASSIC);
    }
    group
}
