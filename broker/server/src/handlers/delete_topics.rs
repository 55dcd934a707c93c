//! `DeleteTopics` v0-6. v1: throttle time; v4: flexible; v5: messages; v6: by name or id. Version
//! 0 is that of kafka-go up to 0.4.47.

use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{ApiKey, DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use storage::CatalogueChange;
use wire::{ErrorCode, legacy};

use crate::context::Context;
use crate::dispatch::{Api, Body, Failure, Piece, Reply, Request};
use crate::refusal::Refusal;
use crate::topics;

pub(crate) const API: Api = Api {
    key: ApiKey::DeleteTopics,
    accepted: (0, 6),
    advertised: (0, 6),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

const MESSAGE_VERSION: i16 = 5;
const ID_VERSION: i16 = 6;

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let version = request.version;
    let mut asked: DeleteTopicsRequest = if version == 0 {
        legacy::delete_topics_request(&request.body).ok_or(Failure::Malformed)?
    } else {
        request.decode()?
    };
    if version < ID_VERSION {
        let by_name = |name| DeleteTopicState::default().with_name(Some(name));
        asked.topics = std::mem::take(&mut asked.topic_names).into_iter().map(by_name).collect();
    }
    let mut response = DeleteTopicsResponse::default();
    for topic in asked.topics {
        let mut result = DeletableTopicResult::default().with_name(topic.name.clone());
        match delete(ctx, &topic).await {
            Ok((name, id)) => {
                result.name = Some(name);
                if version >= ID_VERSION {
                    result.topic_id = id;
                }
            }
            Err(refusal) => {
                result.error_code = refusal.code.0;
                if version >= ID_VERSION {
                    result.topic_id = topic.topic_id;
                }
                if version >= MESSAGE_VERSION {
                    result.error_message = refusal.message();
                }
            }
        }
        response.responses.push(result);
    }
    if version == 0 {
        let body = legacy::delete_topics_response(&response).ok_or(Failure::Unencodable)?;
        return Ok(Reply::Now(Body(vec![Piece::Bytes(body)])));
    }
    request.reply(&response)
}

async fn delete(
    ctx: &Context,
    wanted: &DeleteTopicState,
) -> Result<(TopicName, uuid::Uuid), Refusal> {
    let catalogue = ctx.broker.storage.catalogue();
    let topic = match &wanted.name {
        Some(_) if !wanted.topic_id.is_nil() => {
            let text = "a topic is named by its name or by its id, not by both";
            return Err(Refusal::new(ErrorCode::INVALID_REQUEST, text));
        }
        Some(name) => ctx.topic_named(&catalogue, name)?,
        None => ctx.topic_with_id(&catalogue, wanted.topic_id)?,
    };
    if topics::is_internal(&topic.name) {
        let text = "the coordinators write this topic, it stays";
        return Err(Refusal::new(ErrorCode::INVALID_TOPIC_EXCEPTION, text));
    }
    let delete = CatalogueChange::DeleteTopic { id: topic.id };
    topics::change(&ctx.broker.storage, delete).await.map_err(topics::error_code)?;
    tracing::info!(topic = topic.name, "topic deleted");
    forget_offsets(ctx, topic.name.clone()).await;
    Ok((TopicName(StrBytes::from_string(topic.name.clone())), topic.id.0))
}

/// A topic created again under the name begins without the offsets of the one that is gone.
async fn forget_offsets(ctx: &Context, topic: String) {
    let name = topic.clone();
    let forget = ctx.broker.coordinator.call(move |groups, _, _| groups.forget_topic(&name));
    if let Err(error) = forget.await.wait().await {
        tracing::warn!(topic, %error, "committed offsets outlive their topic");
    }
}
