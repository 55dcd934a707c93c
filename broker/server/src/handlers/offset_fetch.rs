//! `OffsetFetch` v1-9. v2: all topics, an error of the request; v5: leader epoch; v6: flexible;
//! v7: stable offsets only; v8: many groups; v9: members name themselves.

use coordinator::groups::FetchedOffset;
use coordinator::record::TopicPartition;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    ApiKey, GroupId, OffsetFetchRequest, OffsetFetchResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use wire::{ErrorCode, LeaderEpoch, Offset, PartitionIndex};

use crate::context::Context;
use crate::coordinator_task::Plan;
use crate::dispatch::{Api, Failure, Reply, Request};
use crate::once::once;

pub(crate) const API: Api = Api {
    key: ApiKey::OffsetFetch,
    accepted: (1, 9),
    advertised: (1, 9),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

const FIRST_WITH_REQUEST_ERROR: i16 = 2;
const FIRST_WITH_LEADER_EPOCH: i16 = 5;
const FIRST_WITH_MANY_GROUPS: i16 = 8;

/// What is asked of one group; no partitions means all.
struct Wanted {
    group_id: GroupId,
    partitions: Option<Vec<TopicPartition>>,
}

type Found = Vec<(GroupId, Result<Vec<FetchedOffset>, ErrorCode>)>;

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let asked: OffsetFetchRequest = request.decode()?;
    let version = request.version;
    let require_stable = asked.require_stable;
    let wanted = wanted(asked, version);
    let authorizer = ctx.broker.authorizer.clone();
    let principal = ctx.principal;
    let ids: Vec<GroupId> = wanted.iter().map(|wanted| wanted.group_id.clone()).collect();
    let held = ctx.broker.coordinator.call(move |groups, _, _| {
        let fetch = |wanted: Wanted| {
            if !authorizer.allows(principal, &wanted.group_id) {
                return (wanted.group_id, Err(ErrorCode::GROUP_AUTHORIZATION_FAILED));
            }
            let partitions = wanted.partitions.as_deref();
            let mut found = groups.fetch_offsets(&wanted.group_id, partitions, require_stable);
            // Who asks for all topics is given those it may know of; who names one is refused it.
            if partitions.is_none() {
                found.retain(|fetched| authorizer.allows(principal, &fetched.partition.0));
            }
            for fetched in &mut found {
                if !authorizer.allows(principal, &fetched.partition.0) {
                    *fetched = denied(fetched);
                }
            }
            (wanted.group_id, Ok(found))
        };
        Plan::<Found>::only(wanted.into_iter().map(fetch).collect())
    });
    Ok(held.await.reply(version, move |found| {
        let found = found.unwrap_or_else(|error| {
            ids.into_iter().map(|group_id| (group_id, Err(error))).collect()
        });
        if version >= FIRST_WITH_MANY_GROUPS { many(found) } else { one(found, version) }
    }))
}

fn wanted(asked: OffsetFetchRequest, version: i16) -> Vec<Wanted> {
    fn partitions<'a>(
        topics: impl Iterator<Item = (&'a TopicName, &'a Vec<i32>)>,
    ) -> Vec<TopicPartition> {
        let named = topics.flat_map(|(name, indexes)| {
            indexes.iter().map(|index| (name.to_string(), PartitionIndex(*index)))
        });
        once(named, Clone::clone)
    }
    if version < FIRST_WITH_MANY_GROUPS {
        let topics = asked.topics.as_ref();
        return vec![Wanted {
            group_id: asked.group_id,
            partitions: topics
                .map(|t| partitions(t.iter().map(|t| (&t.name, &t.partition_indexes)))),
        }];
    }
    let group = |group: kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup| {
        let topics = group.topics.as_ref();
        Wanted {
            partitions: topics
                .map(|t| partitions(t.iter().map(|t| (&t.name, &t.partition_indexes)))),
            group_id: group.group_id,
        }
    };
    once(asked.groups, |group| group.group_id.clone()).into_iter().map(group).collect()
}

fn denied(fetched: &FetchedOffset) -> FetchedOffset {
    FetchedOffset {
        partition: fetched.partition.clone(),
        offset: Offset(-1),
        leader_epoch: LeaderEpoch(-1),
        metadata: String::new(),
        error: ErrorCode::TOPIC_AUTHORIZATION_FAILED,
    }
}

/// Offsets next to each other of one topic go under its name.
fn by_topic(found: Vec<FetchedOffset>) -> Vec<(TopicName, Vec<FetchedOffset>)> {
    let mut topics: Vec<(TopicName, Vec<FetchedOffset>)> = Vec::new();
    for fetched in found {
        match topics.last_mut() {
            Some((name, offsets)) if name.as_str() == fetched.partition.0 => offsets.push(fetched),
            Some(_) | None => {
                let name = TopicName(StrBytes::from_string(fetched.partition.0.clone()));
                topics.push((name, vec![fetched]));
            }
        }
    }
    topics
}

fn one(found: Found, version: i16) -> OffsetFetchResponse {
    let mut response = OffsetFetchResponse::default();
    let Some((_, found)) = found.into_iter().next() else { return response };
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            if version >= FIRST_WITH_REQUEST_ERROR {
                response.error_code = error.0;
            }
            return response;
        }
    };
    let partition = |fetched: FetchedOffset| {
        let partition = OffsetFetchResponsePartition::default()
            .with_partition_index(fetched.partition.1.0)
            .with_committed_offset(fetched.offset.0)
            .with_metadata(Some(StrBytes::from_string(fetched.metadata)))
            .with_error_code(fetched.error.0);
        if version >= FIRST_WITH_LEADER_EPOCH {
            partition.with_committed_leader_epoch(fetched.leader_epoch.0)
        } else {
            partition
        }
    };
    let topics = by_topic(found).into_iter().map(|(name, offsets)| {
        OffsetFetchResponseTopic::default()
            .with_name(name)
            .with_partitions(offsets.into_iter().map(partition).collect())
    });
    response.with_topics(topics.collect())
}

fn many(found: Found) -> OffsetFetchResponse {
    let partition = |fetched: FetchedOffset| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(fetched.partition.1.0)
            .with_committed_offset(fetched.offset.0)
            .with_committed_leader_epoch(fetched.leader_epoch.0)
            .with_metadata(Some(StrBytes::from_string(fetched.metadata)))
            .with_error_code(fetched.error.0)
    };
    let groups = found.into_iter().map(|(group_id, found)| {
        let group = OffsetFetchResponseGroup::default().with_group_id(group_id);
        match found {
            Err(error) => group.with_error_code(error.0),
            Ok(found) => group.with_topics(
                by_topic(found)
                    .into_iter()
                    .map(|(name, offsets)| {
                        OffsetFetchResponseTopics::default()
                            .with_name(name)
                            .with_partitions(offsets.into_iter().map(partition).collect())
                    })
                    .collect(),
            ),
        }
    });
    OffsetFetchResponse::default().with_groups(groups.collect())
}
