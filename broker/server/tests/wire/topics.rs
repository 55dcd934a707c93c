use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiKey, CreateTopicsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest,
    MetadataRequest, RequestKind, ResponseKind,
};
use server::{Config, ReplicationFactor};
use wire::ErrorCode;

use crate::client::{Client, Running};
use crate::every_version::topic_id;
use crate::requests::{self, text, topic_name};

fn create(client: &mut Client, topics: Vec<CreatableTopic>) -> Vec<ErrorCode> {
    let request = RequestKind::CreateTopics(CreateTopicsRequest::default().with_topics(topics));
    let ResponseKind::CreateTopics(response) = client.call(ApiKey::CreateTopics, 7, &request)
    else {
        panic!("another response");
    };
    response.topics.iter().map(|topic| ErrorCode(topic.error_code)).collect()
}

fn topic(name: &str, partitions: i32, replicas: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(replicas)
}

fn configured(name: &str, config: &str, value: &str) -> CreatableTopic {
    let config =
        CreatableTopicConfig::default().with_name(text(config)).with_value(Some(text(value)));
    topic(name, 1, 1).with_configs(vec![config])
}

fn metadata(client: &mut Client, names: Option<&[&str]>) -> Vec<(String, ErrorCode, usize)> {
    let wanted = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    let request = MetadataRequest::default()
        .with_topics(names.map(|names| names.iter().map(wanted).collect()));
    let request = RequestKind::Metadata(request);
    let ResponseKind::Metadata(response) = client.call(ApiKey::Metadata, 12, &request) else {
        panic!("another response");
    };
    assert_eq!((response.controller_id.0, response.brokers.len()), (1, 1));
    let shown = |topic: kafka_protocol::messages::metadata_response::MetadataResponseTopic| {
        let name = topic.name.map(|name| name.to_string()).unwrap_or_default();
        (name, ErrorCode(topic.error_code), topic.partitions.len())
    };
    response.topics.into_iter().map(shown).collect()
}

#[test]
fn topics_are_created_only_as_they_may_be() {
    let broker = Running::start();
    let mut client = broker.client();
    let ok = ErrorCode::NONE;
    assert_eq!(create(&mut client, vec![topic("a.b", 3, 3), topic("c", -1, -1)]), [ok, ok]);
    for (wanted, code) in [
        (topic("a.b", 1, 1), ErrorCode::TOPIC_ALREADY_EXISTS),
        (topic("a_b", 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (topic("", 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (topic("..", 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (topic("__cluster_metadata", 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (topic(&"n".repeat(250), 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (topic("d", 0, 1), ErrorCode::INVALID_PARTITIONS),
        (topic("d", 1_000_000, 1), ErrorCode::INVALID_PARTITIONS),
        (topic("d", 1, 0), ErrorCode::INVALID_REPLICATION_FACTOR),
        (configured("d", "retention.minutes", "1"), ErrorCode::INVALID_CONFIG),
        (configured("d", "retention.ms", "soon"), ErrorCode::INVALID_CONFIG),
    ] {
        assert_eq!(create(&mut client, vec![wanted.clone()]), [code], "{wanted:?}");
    }
    let twice = create(&mut client, vec![topic("e", 1, 1), topic("e", 2, 1)]);
    assert_eq!(twice, [ErrorCode::INVALID_REQUEST, ErrorCode::INVALID_REQUEST]);
    let all = metadata(&mut client, None);
    let names: Vec<_> = all.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["__consumer_offsets", "__transaction_state", "a.b", "c"]);
    assert_eq!(all[2].2, 3);
}

#[test]
fn a_strict_broker_refuses_replicas_that_it_cannot_keep() {
    let strict = Config { replication_factor: ReplicationFactor::Strict, ..Config::default() };
    let broker = Running::with(strict);
    let codes = create(&mut broker.client(), vec![topic("a", 1, 3), topic("b", 1, -1)]);
    assert_eq!(codes, [ErrorCode::INVALID_REPLICATION_FACTOR, ErrorCode::NONE]);
}

#[test]
fn closed_topics_are_not_there_for_a_client_without_the_key() {
    let closed = Config { closed_prefixes: vec!["__auth.".to_owned()], ..Config::default() };
    let broker = Running::with(closed);
    let mut client = broker.client();
    let refused = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
    assert_eq!(create(&mut client, vec![topic("__auth.users", 1, 1)]), [refused]);
    let asked = metadata(&mut client, Some(&["__auth.users"]));
    assert_eq!(asked, [("__auth.users".to_owned(), refused, 0)]);
    let all = metadata(&mut client, None);
    assert!(all.iter().all(|(name, ..)| !name.starts_with("__auth.")));
}

#[test]
fn auto_creation_obeys_the_broker_and_the_client() {
    let broker = Running::start();
    let mut client = broker.client();
    topic_id(&mut client, "wanted");
    let illegal = metadata(&mut client, Some(&["not wanted"]));
    assert_eq!(illegal[0].1, ErrorCode::INVALID_TOPIC_EXCEPTION);
    let off = Running::with(Config { auto_create_topics: false, ..Config::default() });
    let refused = metadata(&mut off.client(), Some(&["t"]));
    assert_eq!(refused[0].1, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

fn alter(client: &mut Client, name: &str, operation: i8, value: &str) -> ErrorCode {
    let config = AlterableConfig::default()
        .with_name(text(name))
        .with_config_operation(operation)
        .with_value(Some(text(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("t"))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let request = RequestKind::IncrementalAlterConfigs(request);
    match client.call(ApiKey::IncrementalAlterConfigs, 1, &request) {
        ResponseKind::IncrementalAlterConfigs(response) => {
            ErrorCode(response.responses[0].error_code)
        }
        _ => panic!("another response"),
    }
}

fn config(client: &mut Client, name: &str) -> (String, i8) {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("t"))
        .with_configuration_keys(Some(vec![text(name)]));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    match client.call(ApiKey::DescribeConfigs, 4, &RequestKind::DescribeConfigs(request)) {
        ResponseKind::DescribeConfigs(response) => {
            let shown = &response.results[0].configs[0];
            (shown.value.as_ref().unwrap().to_string(), shown.config_source)
        }
        _ => panic!("another response"),
    }
}

#[test]
fn configurations_are_set_appended_to_subtracted_from_and_deleted() {
    let (set, delete, append, subtract) = (0, 1, 2, 3);
    let broker = Running::start();
    let mut client = broker.client();
    topic_id(&mut client, "t");
    let ok = ErrorCode::NONE;
    assert_eq!(config(&mut client, "cleanup.policy"), ("delete".to_owned(), 5));
    assert_eq!(alter(&mut client, "cleanup.policy", append, "compact"), ok);
    assert_eq!(config(&mut client, "cleanup.policy"), ("delete,compact".to_owned(), 1));
    assert_eq!(alter(&mut client, "cleanup.policy", subtract, "delete"), ok);
    assert_eq!(config(&mut client, "cleanup.policy"), ("compact".to_owned(), 1));
    assert_eq!(
        alter(&mut client, "cleanup.policy", subtract, "compact"),
        ErrorCode::INVALID_CONFIG
    );
    assert_eq!(alter(&mut client, "cleanup.policy", delete, ""), ok);
    assert_eq!(config(&mut client, "cleanup.policy"), ("delete".to_owned(), 5));
    assert_eq!(alter(&mut client, "retention.ms", append, "1"), ErrorCode::INVALID_CONFIG);
    assert_eq!(alter(&mut client, "retention.ms", set, "77"), ok);
    assert_eq!(config(&mut client, "retention.ms"), ("77".to_owned(), 1));
    assert_eq!(alter(&mut client, "nonsense", set, "1"), ErrorCode::INVALID_CONFIG);
    assert_eq!(alter(&mut client, "retention.ms", 9, "1"), ErrorCode::INVALID_REQUEST);
}

/// Value, source, and every value that the name has, with its source.
fn synonyms(
    client: &mut Client,
    (kind, resource): (i8, &str),
    name: &str,
) -> (String, i8, Vec<(String, String, i8)>) {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(resource))
        .with_configuration_keys(Some(vec![text(name)]));
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true);
    let request = RequestKind::DescribeConfigs(request);
    let ResponseKind::DescribeConfigs(response) = client.call(ApiKey::DescribeConfigs, 4, &request)
    else {
        panic!("another response");
    };
    let shown = &response.results[0].configs[0];
    let text = |value: &Option<_>| {
        let value: &kafka_protocol::protocol::StrBytes = value.as_ref().unwrap();
        value.to_string()
    };
    let synonyms = shown.synonyms.iter().map(|s| (s.name.to_string(), text(&s.value), s.source));
    (text(&shown.value), shown.config_source, synonyms.collect())
}

#[test]
fn a_topic_inherits_what_the_broker_was_started_with() {
    let (topic_source, dynamic, from_file, default) = (1, 3, 4, 5);
    let written = [
        ("log.retention.hours", "24"),
        ("log.cleanup.policy", "compact"),
        ("log.segment.bytes", "2097152"),
        ("producer.id.expiration.ms", "5000"),
    ];
    let static_configs =
        written.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
    let broker = Running::with(Config { static_configs, ..Config::default() });
    let mut client = broker.client();
    topic_id(&mut client, "t");
    let row = |name: &str, value: &str, source| (name.to_owned(), value.to_owned(), source);

    let inherited = vec![
        row("log.cleanup.policy", "compact", from_file),
        row("log.cleanup.policy", "delete", default),
    ];
    let shown = synonyms(&mut client, (2, "t"), "cleanup.policy");
    assert_eq!(shown, ("compact".to_owned(), from_file, inherited.clone()));
    assert_eq!(alter(&mut client, "cleanup.policy", 0, "delete"), ErrorCode::NONE);
    let own = [vec![row("cleanup.policy", "delete", topic_source)], inherited].concat();
    let shown = synonyms(&mut client, (2, "t"), "cleanup.policy");
    assert_eq!(shown, ("delete".to_owned(), topic_source, own));

    // The tests' brokers keep everything, by a setting of their run time.
    let retention = vec![
        row("log.retention.ms", "-1", dynamic),
        row("log.retention.hours", "24", from_file),
        row("log.retention.ms", "604800000", default),
    ];
    let shown = synonyms(&mut client, (2, "t"), "retention.ms");
    assert_eq!(shown, ("-1".to_owned(), dynamic, retention.clone()));
    let shown = synonyms(&mut client, (4, "1"), "log.retention.ms");
    assert_eq!(shown, ("-1".to_owned(), dynamic, retention));

    assert_eq!(config(&mut client, "segment.bytes"), ("2097152".to_owned(), from_file));
    assert_eq!(config(&mut client, "max.message.bytes"), ("1048588".to_owned(), default));
    for (name, value, source) in [
        ("log.retention.hours", "24", from_file),
        ("log.roll.hours", "168", default),
        ("producer.id.expiration.ms", "5000", from_file),
        ("offsets.retention.minutes", "10080", default),
        ("transactional.id.expiration.ms", "604800000", default),
    ] {
        let (shown, of, _) = synonyms(&mut client, (4, "1"), name);
        assert_eq!((shown.as_str(), of), (value, source), "{name}");
    }

    let unset = Running::as_shipped_with(Config {
        static_configs: [("log.retention.hours".to_owned(), "24".to_owned())].into(),
        ..Config::default()
    });
    let mut client = unset.client();
    topic_id(&mut client, "t");
    let (value, source, _) = synonyms(&mut client, (2, "t"), "retention.ms");
    assert_eq!((value.as_str(), source), ("86400000", from_file));
}

#[test]
fn records_are_deleted_only_where_age_may_delete_them() {
    let broker = Running::start();
    let mut client = broker.client();
    let id = topic_id(&mut client, "t");
    let mut delete = |topic: &str, offset| {
        let request = requests::delete_records(topic, offset);
        let ResponseKind::DeleteRecords(told) = client.call(ApiKey::DeleteRecords, 2, &request)
        else {
            panic!("another response");
        };
        let partition = &told.topics[0].partitions[0];
        (ErrorCode(partition.error_code), partition.low_watermark)
    };
    let produced = requests::produce(9, ("t", id), -1, requests::batch(5, &["a", "b", "c"]));
    broker.client().call(ApiKey::Produce, 9, &produced);
    assert_eq!(delete("t", 4), (ErrorCode::OFFSET_OUT_OF_RANGE, -1));
    assert_eq!(delete("t", -2), (ErrorCode::OFFSET_OUT_OF_RANGE, -1));
    assert_eq!(delete("t", 2), (ErrorCode::NONE, 2));
    assert_eq!(delete("t", 1), (ErrorCode::NONE, 2));
    assert_eq!(delete("t", -1), (ErrorCode::NONE, 3));
    assert_eq!(delete("none", 0), (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1));
    assert_eq!(delete("__consumer_offsets", 0), (ErrorCode::INVALID_TOPIC_EXCEPTION, -1));
    let fetched =
        broker.client().call(ApiKey::Fetch, 12, &requests::fetch(12, ("t", id), 2, (0, 99, 0)));
    let ResponseKind::Fetch(fetched) = fetched else { panic!("another response") };
    let partition = &fetched.responses[0].partitions[0];
    assert_eq!(ErrorCode(partition.error_code), ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(alter(&mut broker.client(), "cleanup.policy", 0, "compact"), ErrorCode::NONE);
    assert_eq!(delete("t", -1), (ErrorCode::POLICY_VIOLATION, -1));
}
