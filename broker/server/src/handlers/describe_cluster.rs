//! `DescribeCluster` v0-2. v1: brokers or controllers; v2: fenced brokers.

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{ApiKey, BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;
use wire::ErrorCode;

use crate::cluster;
use crate::context::Context;
use crate::dispatch::{Api, Failure, Reply, Request};

pub(crate) const API: Api = Api {
    key: ApiKey::DescribeCluster,
    accepted: (0, 2),
    advertised: (0, 2),
    handle: |ctx, request| Box::pin(async move { handle(ctx, &request) }),
};

const BROKERS: i8 = 1;

fn handle(ctx: &mut Context, request: &Request) -> Result<Reply, Failure> {
    let asked: DescribeClusterRequest = request.decode()?;
    let mut response = DescribeClusterResponse::default()
        .with_cluster_id(cluster::id(&ctx.broker))
        .with_controller_id(BrokerId(ctx.broker.config.node_id))
        .with_cluster_authorized_operations(cluster::NOT_ASKED);
    if request.version >= 1 && asked.endpoint_type != BROKERS {
        response.error_code = ErrorCode::UNSUPPORTED_ENDPOINT_TYPE.0;
        response.error_message =
            Some(StrBytes::from_static_str("this listener knows the brokers alone"));
        return request.reply(&response);
    }
    let (host, port) = ctx.advertised.clone();
    response.brokers = vec![
        DescribeClusterBroker::default()
            .with_broker_id(BrokerId(ctx.broker.config.node_id))
            .with_host(host)
            .with_port(port),
    ];
    if asked.include_cluster_authorized_operations {
        response.cluster_authorized_operations = cluster::CLUSTER_OPERATIONS;
    }
    request.reply(&response)
}
