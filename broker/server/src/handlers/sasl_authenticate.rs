//! `SaslAuthenticate` v0-2. v1: session lifetime, which does not end; v2: flexible.

use std::time::Duration;

use kafka_protocol::messages::{ApiKey, SaslAuthenticateRequest, SaslAuthenticateResponse};
use kafka_protocol::protocol::StrBytes;
use security::{AuthenticationError, Principal};

use crate::context::Context;
use crate::dispatch::{Api, Failure, Reply, Request, encode};

pub(crate) const API: Api = Api {
    key: ApiKey::SaslAuthenticate,
    accepted: (0, 2),
    advertised: (0, 2),
    handle: |ctx, request| Box::pin(async move { handle(ctx, &request) }),
};

/// How long a refused client waits for its answer, so that guessing is slow.
const REFUSAL_DELAY: Duration = Duration::from_millis(500);

fn handle(ctx: &mut Context, request: &Request) -> Result<Reply, Failure> {
    let asked: SaslAuthenticateRequest = request.decode()?;
    match authenticate(ctx, &asked.auth_bytes) {
        Ok(()) => request.reply(&SaslAuthenticateResponse::default()),
        Err(error) => {
            let version = request.version;
            let refused = SaslAuthenticateResponse::default()
                .with_error_code(error.code().0)
                .with_error_message(Some(StrBytes::from_string(error.to_string())));
            Ok(Reply::Later(Box::pin(async move {
                tokio::time::sleep(REFUSAL_DELAY).await;
                encode(&refused, version).map(Some)
            })))
        }
    }
}

/// Takes the token of a client, whether it came in a request or as a bare frame.
pub(crate) fn authenticate(ctx: &mut Context, token: &[u8]) -> Result<(), AuthenticationError> {
    let outcome = ctx.sasl.authenticate(token, ctx.broker.config.service_key.as_deref());
    match outcome {
        Ok(principal) => {
            ctx.principal = principal;
            Ok(())
        }
        Err(error) => {
            ctx.principal = Principal::Anonymous;
            tracing::warn!(peer = %ctx.peer, %error, "authentication failed");
            Err(error)
        }
    }
}
