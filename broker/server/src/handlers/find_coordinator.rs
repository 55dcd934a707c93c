//! `FindCoordinator` v0-6. v1: transactional ids; v4: many keys at once; v6: share groups, which
//! this broker has not.

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{ApiKey, BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;
use wire::ErrorCode;

use crate::context::Context;
use crate::dispatch::{Api, Failure, Reply, Request};

pub(crate) const API: Api = Api {
    key: ApiKey::FindCoordinator,
    accepted: (0, 6),
    advertised: (0, 6),
    handle: |ctx, request| Box::pin(async move { handle(ctx, &request) }),
};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const FIRST_WITH_MANY_KEYS: i16 = 4;

fn handle(ctx: &mut Context, request: &Request) -> Result<Reply, Failure> {
    let asked: FindCoordinatorRequest = request.decode()?;
    if request.version >= FIRST_WITH_MANY_KEYS {
        let found = asked.coordinator_keys.into_iter().map(|key| find(ctx, asked.key_type, key));
        return request
            .reply(&FindCoordinatorResponse::default().with_coordinators(found.collect()));
    }
    let found = find(ctx, asked.key_type, asked.key);
    let mut response = FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port);
    if request.version >= 1 {
        response.error_message = found.error_message;
    }
    request.reply(&response)
}

/// It is always this node, for whoever may know of the key.
fn find(ctx: &Context, key_type: i8, key: StrBytes) -> Coordinator {
    let allowed = ctx.broker.authorizer.allows(ctx.principal, &key);
    let error = match key_type {
        GROUP if !allowed => ErrorCode::GROUP_AUTHORIZATION_FAILED,
        TRANSACTION if !allowed => ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        GROUP | TRANSACTION => ErrorCode::NONE,
        _ => ErrorCode::INVALID_REQUEST,
    };
    let coordinator = Coordinator::default().with_key(key).with_error_code(error.0);
    if error.is_none() {
        let (host, port) = ctx.advertised.clone();
        let node_id = BrokerId(ctx.broker.config.node_id);
        coordinator.with_node_id(node_id).with_host(host).with_port(port)
    } else {
        let message = StrBytes::from_string(error.to_string());
        coordinator.with_node_id(BrokerId(-1)).with_port(-1).with_error_message(Some(message))
    }
}
