//! `AddOffsetsToTxn` v0-4. v2: `PRODUCER_FENCED`; v3: flexible; v4: KIP-890.

use coordinator::{CONSUMER_OFFSETS, group_partition};
use kafka_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, ApiKey};
use wire::ErrorCode;

use crate::context::Context;
use crate::dispatch::{Api, Failure, Reply, Request};
use crate::handlers::transactional::{fenced_before, of, producer};

pub(crate) const API: Api = Api {
    key: ApiKey::AddOffsetsToTxn,
    accepted: (0, 4),
    advertised: (0, 4),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

const FIRST_WITH_PRODUCER_FENCED: i16 = 2;

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let asked: AddOffsetsToTxnRequest = request.decode()?;
    let version = request.version;
    let of = of(&asked.transactional_id, producer(asked.producer_id, asked.producer_epoch));
    if !ctx.broker.authorizer.allows(ctx.principal, &of.transactional_id) {
        return request.reply(&response(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED));
    }
    if !ctx.broker.authorizer.allows(ctx.principal, &asked.group_id) {
        return request.reply(&response(ErrorCode::GROUP_AUTHORIZATION_FAILED));
    }
    if asked.group_id.is_empty() {
        return request.reply(&response(ErrorCode::INVALID_GROUP_ID));
    }
    let partition = (CONSUMER_OFFSETS.to_owned(), group_partition(&asked.group_id));
    let plan = ctx
        .broker
        .coordinator
        .call(move |_, transactions, now| transactions.add_partitions(now, &of, &[partition]));
    Ok(plan.await.reply(version, move |outcome| {
        let error = outcome.and_then(|outcome| outcome).err().unwrap_or(ErrorCode::NONE);
        response(fenced_before(FIRST_WITH_PRODUCER_FENCED, version, error))
    }))
}

fn response(error: ErrorCode) -> AddOffsetsToTxnResponse {
    AddOffsetsToTxnResponse::default().with_error_code(error.0)
}
