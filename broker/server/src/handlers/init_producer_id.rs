//! `InitProducerId` v0-5. v2: flexible; v3: a producer asks for its next epoch (KIP-360); v4:
//! `PRODUCER_FENCED`; v5: KIP-890. An open transaction is aborted before the answer, so that
//! nobody is told `CONCURRENT_TRANSACTIONS`.

use coordinator::transactions::{InitProducerIdRequest as Init, Producer};
use kafka_protocol::messages::{
    ApiKey, InitProducerIdRequest, InitProducerIdResponse, ProducerId as WireProducerId,
};
use wire::{ErrorCode, ProducerEpoch, ProducerId};

use crate::context::Context;
use crate::dispatch::{Api, Failure, Reply, Request};
use crate::handlers::transactional::{fenced_before, producer};

pub(crate) const API: Api = Api {
    key: ApiKey::InitProducerId,
    accepted: (0, 5),
    advertised: (0, 5),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

const FIRST_WITH_PRODUCER_FENCED: i16 = 4;

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let asked: InitProducerIdRequest = request.decode()?;
    let version = request.version;
    let present = producer(asked.producer_id, asked.producer_epoch);
    let has_id = present.id != ProducerId::NONE;
    if has_id != (present.epoch != ProducerEpoch::NONE) {
        return request.reply(&refusal(ErrorCode::INVALID_REQUEST));
    }
    let transactional_id = asked.transactional_id.map(|id| id.to_string());
    let closed = |id: &String| !ctx.broker.authorizer.allows(ctx.principal, id);
    if transactional_id.as_ref().is_some_and(closed) {
        return request.reply(&refusal(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED));
    }
    let init = Init {
        transactional_id,
        timeout_ms: asked.transaction_timeout_ms,
        producer: has_id.then_some(present),
    };
    let plan = ctx
        .broker
        .coordinator
        .call(move |_, transactions, now| transactions.init_producer_id(now, &init));
    Ok(plan.await.reply(version, move |outcome| match outcome.and_then(|outcome| outcome) {
        Ok(Producer { id, epoch }) => InitProducerIdResponse::default()
            .with_producer_id(WireProducerId(id.0))
            .with_producer_epoch(epoch.0),
        Err(error) => refusal(fenced_before(FIRST_WITH_PRODUCER_FENCED, version, error)),
    }))
}

fn refusal(error: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(error.0)
        .with_producer_id(WireProducerId(-1))
        .with_producer_epoch(-1)
}
