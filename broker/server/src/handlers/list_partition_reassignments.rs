//! `ListPartitionReassignments` v0: one node moves nothing.

use kafka_protocol::messages::{
    ApiKey, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

use crate::dispatch::{Api, Failure, Reply, Request};

pub(crate) const API: Api = Api {
    key: ApiKey::ListPartitionReassignments,
    accepted: (0, 0),
    advertised: (0, 0),
    handle: |_ctx, request| Box::pin(async move { handle(&request) }),
};

fn handle(request: &Request) -> Result<Reply, Failure> {
    let _asked: ListPartitionReassignmentsRequest = request.decode()?;
    request.reply(&ListPartitionReassignmentsResponse::default().with_error_message(None))
}
