//! `EndTxn` v0-5. v2: `PRODUCER_FENCED`; v3: flexible; v5: the epoch rises with every end
//! (KIP-890).

use coordinator::transactions::Producer;
use kafka_protocol::messages::{ApiKey, EndTxnRequest, EndTxnResponse, ProducerId};
use wire::ErrorCode;

use crate::context::Context;
use crate::dispatch::{Api, Failure, Reply, Request};
use crate::handlers::transactional::{fenced_before, of, producer};

pub(crate) const API: Api = Api {
    key: ApiKey::EndTxn,
    accepted: (0, 5),
    advertised: (0, 5),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

const FIRST_WITH_PRODUCER_FENCED: i16 = 2;
const FIRST_THAT_RAISES_EPOCH: i16 = 5;

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let asked: EndTxnRequest = request.decode()?;
    let version = request.version;
    let of = of(&asked.transactional_id, producer(asked.producer_id, asked.producer_epoch));
    if !ctx.broker.authorizer.allows(ctx.principal, &of.transactional_id) {
        return request.reply(&refusal(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, version));
    }
    let committed = asked.committed;
    let raises_epoch = version >= FIRST_THAT_RAISES_EPOCH;
    let plan = ctx.broker.coordinator.call(move |_, transactions, now| {
        let result = transactions.end_transaction(now, &of, committed, raises_epoch);
        if let Err(error) = &result.response {
            let known = transactions.state().get(&of.transactional_id);
            tracing::debug!(?of, committed, version, %error, ?known, "a transaction is not ended");
        }
        result
    });
    Ok(plan.await.reply(version, move |outcome| match outcome.and_then(|outcome| outcome) {
        Ok(next) => response(ErrorCode::NONE, next, version),
        Err(error) => refusal(fenced_before(FIRST_WITH_PRODUCER_FENCED, version, error), version),
    }))
}

fn refusal(error: ErrorCode, version: i16) -> EndTxnResponse {
    response(error, producer(ProducerId(-1), -1), version)
}

fn response(error: ErrorCode, next: Producer, version: i16) -> EndTxnResponse {
    let response = EndTxnResponse::default().with_error_code(error.0);
    if version >= FIRST_THAT_RAISES_EPOCH {
        response.with_producer_id(ProducerId(next.id.0)).with_producer_epoch(next.epoch.0)
    } else {
        response
    }
}
