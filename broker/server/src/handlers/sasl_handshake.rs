//! `SaslHandshake` v0-1. After v0 the tokens follow as bare frames.

use kafka_protocol::messages::{ApiKey, SaslHandshakeRequest, SaslHandshakeResponse};
use kafka_protocol::protocol::StrBytes;
use security::MECHANISMS;

use crate::context::Context;
use crate::dispatch::{Api, Failure, Reply, Request};

pub(crate) const API: Api = Api {
    key: ApiKey::SaslHandshake,
    accepted: (0, 1),
    advertised: (0, 1),
    handle: |ctx, request| Box::pin(async move { handle(ctx, &request) }),
};

const FIRST_WITHOUT_RAW_TOKENS: i16 = 1;

fn handle(ctx: &mut Context, request: &Request) -> Result<Reply, Failure> {
    let asked: SaslHandshakeRequest = request.decode()?;
    let raw_tokens = request.version < FIRST_WITHOUT_RAW_TOKENS;
    let error = ctx.sasl.handshake(&asked.mechanism, raw_tokens);
    let mechanisms = MECHANISMS.iter().copied().map(StrBytes::from_static_str).collect();
    let response = SaslHandshakeResponse::default();
    request.reply(&response.with_error_code(error.0).with_mechanisms(mechanisms))
}
