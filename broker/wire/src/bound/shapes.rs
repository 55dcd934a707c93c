//! The order of fields in every request that the broker reads, from Kafka's message
//! definitions: name, first version, last version, kind. One table for all versions, since a
//! field never changes its place.

use super::Kind::{Array, Blob, Fixed, Optional, Struct, Text, Topic};
use super::{Field, Shape, field, tagged};

/// The last version of a field that is still there.
const LAST: i16 = i16::MAX;

/// The shape of each API's request, by API key.
pub(super) const SHAPES: &[Shape] = &[
    Shape { api_key: 0, flexible: 9, fields: PRODUCE },
    Shape { api_key: 1, flexible: 12, fields: FETCH },
    Shape { api_key: 2, flexible: 6, fields: LIST_OFFSETS },
    Shape { api_key: 3, flexible: 9, fields: METADATA },
    Shape { api_key: 8, flexible: 8, fields: OFFSET_COMMIT },
    Shape { api_key: 9, flexible: 6, fields: OFFSET_FETCH },
    Shape { api_key: 10, flexible: 3, fields: FIND_COORDINATOR },
    Shape { api_key: 11, flexible: 6, fields: JOIN_GROUP },
    Shape { api_key: 12, flexible: 4, fields: HEARTBEAT },
    Shape { api_key: 13, flexible: 4, fields: LEAVE_GROUP },
    Shape { api_key: 14, flexible: 4, fields: SYNC_GROUP },
    Shape { api_key: 15, flexible: 5, fields: DESCRIBE_GROUPS },
    Shape { api_key: 16, flexible: 3, fields: LIST_GROUPS },
    Shape { api_key: 17, flexible: LAST, fields: SASL_HANDSHAKE },
    Shape { api_key: 18, flexible: 3, fields: API_VERSIONS },
    Shape { api_key: 19, flexible: 5, fields: CREATE_TOPICS },
    Shape { api_key: 20, flexible: 4, fields: DELETE_TOPICS },
    Shape { api_key: 21, flexible: 2, fields: DELETE_RECORDS },
    Shape { api_key: 22, flexible: 2, fields: INIT_PRODUCER_ID },
    Shape { api_key: 23, flexible: 4, fields: OFFSET_FOR_LEADER_EPOCH },
    Shape { api_key: 24, flexible: 3, fields: ADD_PARTITIONS_TO_TXN },
    Shape { api_key: 25, flexible: 3, fields: ADD_OFFSETS_TO_TXN },
    Shape { api_key: 26, flexible: 3, fields: END_TXN },
    Shape { api_key: 28, flexible: 3, fields: TXN_OFFSET_COMMIT },
    Shape { api_key: 32, flexible: 4, fields: DESCRIBE_CONFIGS },
    Shape { api_key: 33, flexible: 2, fields: ALTER_CONFIGS },
    Shape { api_key: 36, flexible: 2, fields: SASL_AUTHENTICATE },
    Shape { api_key: 37, flexible: 2, fields: CREATE_PARTITIONS },
    Shape { api_key: 42, flexible: 2, fields: DELETE_GROUPS },
    Shape { api_key: 44, flexible: 1, fields: INCREMENTAL_ALTER_CONFIGS },
    Shape { api_key: 46, flexible: 0, fields: LIST_PARTITION_REASSIGNMENTS },
    Shape { api_key: 47, flexible: LAST, fields: OFFSET_DELETE },
    Shape { api_key: 60, flexible: 0, fields: DESCRIBE_CLUSTER },
    Shape { api_key: 75, flexible: 0, fields: DESCRIBE_TOPIC_PARTITIONS },
];

const PRODUCE: &[Field] = &[
    field("transactional_id", 3, LAST, Text),
    field("acks", 3, LAST, Fixed(2)),
    field("timeout_ms", 3, LAST, Fixed(4)),
    field(
        "topic_data",
        3,
        LAST,
        Array(&Struct(&[
            field("topic_id", 13, LAST, Fixed(16)),
            field("name", 3, 12, Text),
            field(
                "partition_data",
                3,
                LAST,
                Array(&Struct(&[
                    field("index", 3, LAST, Fixed(4)),
                    field("records", 3, LAST, Blob),
                ])),
            ),
        ])),
    ),
];

const FETCH: &[Field] = &[
    field("replica_id", 4, 14, Fixed(4)),
    field("max_wait_ms", 4, LAST, Fixed(4)),
    field("min_bytes", 4, LAST, Fixed(4)),
    field("max_bytes", 4, LAST, Fixed(4)),
    field("isolation_level", 4, LAST, Fixed(1)),
    field("session_id", 7, LAST, Fixed(4)),
    field("session_epoch", 7, LAST, Fixed(4)),
    field(
        "topics",
        4,
        LAST,
        Array(&Struct(&[
            field("topic_id", 13, LAST, Fixed(16)),
            field("topic", 4, 12, Text),
            field(
                "partitions",
                4,
                LAST,
                Array(&Struct(&[
                    field("partition", 4, LAST, Fixed(4)),
                    field("current_leader_epoch", 9, LAST, Fixed(4)),
                    field("fetch_offset", 4, LAST, Fixed(8)),
                    field("last_fetched_epoch", 12, LAST, Fixed(4)),
                    field("log_start_offset", 5, LAST, Fixed(8)),
                    field("partition_max_bytes", 4, LAST, Fixed(4)),
                    tagged("replica_directory_id", 0, 17, LAST, Fixed(16)),
                    tagged("high_watermark", 1, 18, LAST, Fixed(8)),
                ])),
            ),
        ])),
    ),
    field(
        "forgotten_topics_data",
        7,
        LAST,
        Array(&Struct(&[
            field("topic_id", 13, LAST, Fixed(16)),
            field("topic", 7, 12, Text),
            field("partitions", 7, LAST, Array(&Fixed(4))),
        ])),
    ),
    field("rack_id", 11, LAST, Text),
    tagged("cluster_id", 0, 12, LAST, Text),
    tagged(
        "replica_state",
        1,
        15,
        LAST,
        Struct(&[
            field("replica_id", 15, LAST, Fixed(4)),
            field("replica_epoch", 15, LAST, Fixed(8)),
        ]),
    ),
];

const LIST_OFFSETS: &[Field] = &[
    field("replica_id", 1, LAST, Fixed(4)),
    field("isolation_level", 2, LAST, Fixed(1)),
    field(
        "topics",
        1,
        LAST,
        Array(&Struct(&[
            field("name", 1, LAST, Text),
            field(
                "partitions",
                1,
                LAST,
                Array(&Struct(&[
                    field("partition_index", 1, LAST, Fixed(4)),
                    field("current_leader_epoch", 4, LAST, Fixed(4)),
                    field("timestamp", 1, LAST, Fixed(8)),
                ])),
            ),
        ])),
    ),
    field("timeout_ms", 10, LAST, Fixed(4)),
];

const METADATA: &[Field] = &[
    field(
        "topics",
        0,
        LAST,
        Array(&Struct(&[field("topic_id", 10, LAST, Fixed(16)), field("name", 0, LAST, Text)])),
    ),
    field("allow_auto_topic_creation", 4, LAST, Fixed(1)),
    field("include_cluster_authorized_operations", 8, 10, Fixed(1)),
    field("include_topic_authorized_operations", 8, LAST, Fixed(1)),
];

const OFFSET_COMMIT: &[Field] = &[
    field("group_id", 2, LAST, Text),
    field("generation_id_or_member_epoch", 2, LAST, Fixed(4)),
    field("member_id", 2, LAST, Text),
    field("group_instance_id", 7, LAST, Text),
    field("retention_time_ms", 2, 4, Fixed(8)),
    field(
        "topics",
        2,
        LAST,
        Array(&Struct(&[
            field("topic_id", 10, LAST, Fixed(16)),
            field("name", 2, 9, Topic),
            field(
                "partitions",
                2,
                LAST,
                Array(&Struct(&[
                    field("partition_index", 2, LAST, Fixed(4)),
                    field("committed_offset", 2, LAST, Fixed(8)),
                    field("committed_leader_epoch", 6, LAST, Fixed(4)),
                    field("committed_metadata", 2, LAST, Text),
                ])),
            ),
        ])),
    ),
];

const OFFSET_FETCH: &[Field] = &[
    field(
        "groups",
        8,
        LAST,
        Array(&Struct(&[
            field("group_id", 8, LAST, Text),
            field("member_id", 9, LAST, Text),
            field("member_epoch", 9, LAST, Fixed(4)),
            field(
                "topics",
                8,
                LAST,
                Array(&Struct(&[
                    field("topic_id", 10, LAST, Fixed(16)),
                    field("name", 8, 9, Topic),
                    field("partition_indexes", 8, LAST, Array(&Fixed(4))),
                ])),
            ),
        ])),
    ),
    field("group_id", 1, 7, Text),
    field(
        "topics",
        1,
        7,
        Array(&Struct(&[
            field("name", 1, 7, Topic),
            field("partition_indexes", 1, 7, Array(&Fixed(4))),
        ])),
    ),
    field("require_stable", 7, LAST, Fixed(1)),
];

const FIND_COORDINATOR: &[Field] = &[
    field("key", 0, 3, Text),
    field("key_type", 1, LAST, Fixed(1)),
    field("coordinator_keys", 4, LAST, Array(&Text)),
];

const JOIN_GROUP: &[Field] = &[
    field("group_id", 0, LAST, Text),
    field("session_timeout_ms", 0, LAST, Fixed(4)),
    field("rebalance_timeout_ms", 1, LAST, Fixed(4)),
    field("member_id", 0, LAST, Text),
    field("group_instance_id", 5, LAST, Text),
    field("protocol_type", 0, LAST, Text),
    field(
        "protocols",
        0,
        LAST,
        Array(&Struct(&[field("name", 0, LAST, Text), field("metadata", 0, LAST, Blob)])),
    ),
    field("reason", 8, LAST, Text),
];

const HEARTBEAT: &[Field] = &[
    field("group_id", 0, LAST, Text),
    field("generation_id", 0, LAST, Fixed(4)),
    field("member_id", 0, LAST, Text),
    field("group_instance_id", 3, LAST, Text),
];

const LEAVE_GROUP: &[Field] = &[
    field("group_id", 0, LAST, Text),
    field(
        "members",
        3,
        LAST,
        Array(&Struct(&[
            field("member_id", 3, LAST, Text),
            field("group_instance_id", 3, LAST, Text),
            field("reason", 5, LAST, Text),
        ])),
    ),
    field("member_id", 0, 2, Text),
];

const SYNC_GROUP: &[Field] = &[
    field("group_id", 0, LAST, Text),
    field("generation_id", 0, LAST, Fixed(4)),
    field("member_id", 0, LAST, Text),
    field("group_instance_id", 3, LAST, Text),
    field("protocol_type", 5, LAST, Text),
    field("protocol_name", 5, LAST, Text),
    field(
        "assignments",
        0,
        LAST,
        Array(&Struct(&[field("member_id", 0, LAST, Text), field("assignment", 0, LAST, Blob)])),
    ),
];

const DESCRIBE_GROUPS: &[Field] = &[
    field("groups", 0, LAST, Array(&Text)),
    field("include_authorized_operations", 3, LAST, Fixed(1)),
];

const LIST_GROUPS: &[Field] =
    &[field("states_filter", 4, LAST, Array(&Text)), field("types_filter", 5, LAST, Array(&Text))];

const SASL_HANDSHAKE: &[Field] = &[field("mechanism", 0, LAST, Text)];

const API_VERSIONS: &[Field] = &[
    field("client_software_name", 3, LAST, Text),
    field("client_software_version", 3, LAST, Text),
];

const CREATE_TOPICS: &[Field] = &[
    field(
        "topics",
        0,
        LAST,
        Array(&Struct(&[
            field("name", 0, LAST, Text),
            field("num_partitions", 0, LAST, Fixed(4)),
            field("replication_factor", 0, LAST, Fixed(2)),
            field(
                "assignments",
                0,
                LAST,
                Array(&Struct(&[
                    field("partition_index", 0, LAST, Fixed(4)),
                    field("broker_ids", 0, LAST, Array(&Fixed(4))),
                ])),
            ),
            field(
                "configs",
                0,
                LAST,
                Array(&Struct(&[field("name", 0, LAST, Text), field("value", 0, LAST, Text)])),
            ),
        ])),
    ),
    field("timeout_ms", 0, LAST, Fixed(4)),
    field("validate_only", 1, LAST, Fixed(1)),
];

const DELETE_TOPICS: &[Field] = &[
    field(
        "topics",
        6,
        LAST,
        Array(&Struct(&[field("name", 6, LAST, Text), field("topic_id", 6, LAST, Fixed(16))])),
    ),
    field("topic_names", 0, 5, Array(&Text)),
    field("timeout_ms", 0, LAST, Fixed(4)),
];

const DELETE_RECORDS: &[Field] = &[
    field(
        "topics",
        0,
        LAST,
        Array(&Struct(&[
            field("name", 0, LAST, Text),
            field(
                "partitions",
                0,
                LAST,
                Array(&Struct(&[
                    field("partition_index", 0, LAST, Fixed(4)),
                    field("offset", 0, LAST, Fixed(8)),
                ])),
            ),
        ])),
    ),
    field("timeout_ms", 0, LAST, Fixed(4)),
];

const INIT_PRODUCER_ID: &[Field] = &[
    field("transactional_id", 0, LAST, Text),
    field("transaction_timeout_ms", 0, LAST, Fixed(4)),
    field("producer_id", 3, LAST, Fixed(8)),
    field("producer_epoch", 3, LAST, Fixed(2)),
    field("enable2_pc", 6, LAST, Fixed(1)),
    field("keep_prepared_txn", 6, LAST, Fixed(1)),
];

const OFFSET_FOR_LEADER_EPOCH: &[Field] = &[
    field("replica_id", 3, LAST, Fixed(4)),
    field(
        "topics",
        2,
        LAST,
        Array(&Struct(&[
            field("topic", 2, LAST, Text),
            field(
                "partitions",
                2,
                LAST,
                Array(&Struct(&[
                    field("partition", 2, LAST, Fixed(4)),
                    field("current_leader_epoch", 2, LAST, Fixed(4)),
                    field("leader_epoch", 2, LAST, Fixed(4)),
                ])),
            ),
        ])),
    ),
];

const ADD_PARTITIONS_TO_TXN: &[Field] = &[
    field(
        "transactions",
        4,
        LAST,
        Array(&Struct(&[
            field("transactional_id", 4, LAST, Text),
            field("producer_id", 4, LAST, Fixed(8)),
            field("producer_epoch", 4, LAST, Fixed(2)),
            field("verify_only", 4, LAST, Fixed(1)),
            field(
                "topics",
                4,
                LAST,
                Array(&Struct(&[
                    field("name", 4, LAST, Topic),
                    field("partitions", 4, LAST, Array(&Fixed(4))),
                ])),
            ),
        ])),
    ),
    field("v3_and_below_transactional_id", 0, 3, Text),
    field("v3_and_below_producer_id", 0, 3, Fixed(8)),
    field("v3_and_below_producer_epoch", 0, 3, Fixed(2)),
    field(
        "v3_and_below_topics",
        0,
        3,
        Array(&Struct(&[field("name", 0, 3, Topic), field("partitions", 0, 3, Array(&Fixed(4)))])),
    ),
];

const ADD_OFFSETS_TO_TXN: &[Field] = &[
    field("transactional_id", 0, LAST, Text),
    field("producer_id", 0, LAST, Fixed(8)),
    field("producer_epoch", 0, LAST, Fixed(2)),
    field("group_id", 0, LAST, Text),
];

const END_TXN: &[Field] = &[
    field("transactional_id", 0, LAST, Text),
    field("producer_id", 0, LAST, Fixed(8)),
    field("producer_epoch", 0, LAST, Fixed(2)),
    field("committed", 0, LAST, Fixed(1)),
];

const TXN_OFFSET_COMMIT: &[Field] = &[
    field("transactional_id", 0, LAST, Text),
    field("group_id", 0, LAST, Text),
    field("producer_id", 0, LAST, Fixed(8)),
    field("producer_epoch", 0, LAST, Fixed(2)),
    field("generation_id", 3, LAST, Fixed(4)),
    field("member_id", 3, LAST, Text),
    field("group_instance_id", 3, LAST, Text),
    field(
        "topics",
        0,
        LAST,
        Array(&Struct(&[
            field("name", 0, LAST, Topic),
            field(
                "partitions",
                0,
                LAST,
                Array(&Struct(&[
                    field("partition_index", 0, LAST, Fixed(4)),
                    field("committed_offset", 0, LAST, Fixed(8)),
                    field("committed_leader_epoch", 2, LAST, Fixed(4)),
                    field("committed_metadata", 0, LAST, Text),
                ])),
            ),
        ])),
    ),
];

const DESCRIBE_CONFIGS: &[Field] = &[
    field(
        "resources",
        0,
        LAST,
        Array(&Struct(&[
            field("resource_type", 0, LAST, Fixed(1)),
            field("resource_name", 0, LAST, Text),
            field("configuration_keys", 0, LAST, Array(&Text)),
        ])),
    ),
    field("include_synonyms", 1, LAST, Fixed(1)),
    field("include_documentation", 3, LAST, Fixed(1)),
];

const ALTER_CONFIGS: &[Field] = &[
    field(
        "resources",
        0,
        LAST,
        Array(&Struct(&[
            field("resource_type", 0, LAST, Fixed(1)),
            field("resource_name", 0, LAST, Text),
            field(
                "configs",
                0,
                LAST,
                Array(&Struct(&[field("name", 0, LAST, Text), field("value", 0, LAST, Text)])),
            ),
        ])),
    ),
    field("validate_only", 0, LAST, Fixed(1)),
];

const SASL_AUTHENTICATE: &[Field] = &[field("auth_bytes", 0, LAST, Blob)];

const CREATE_PARTITIONS: &[Field] = &[
    field(
        "topics",
        0,
        LAST,
        Array(&Struct(&[
            field("name", 0, LAST, Text),
            field("count", 0, LAST, Fixed(4)),
            field(
                "assignments",
                0,
                LAST,
                Array(&Struct(&[field("broker_ids", 0, LAST, Array(&Fixed(4)))])),
            ),
        ])),
    ),
    field("timeout_ms", 0, LAST, Fixed(4)),
    field("validate_only", 0, LAST, Fixed(1)),
];

const DELETE_GROUPS: &[Field] = &[field("groups_names", 0, LAST, Array(&Text))];

const INCREMENTAL_ALTER_CONFIGS: &[Field] = &[
    field(
        "resources",
        0,
        LAST,
        Array(&Struct(&[
            field("resource_type", 0, LAST, Fixed(1)),
            field("resource_name", 0, LAST, Text),
            field(
                "configs",
                0,
                LAST,
                Array(&Struct(&[
                    field("name", 0, LAST, Text),
                    field("config_operation", 0, LAST, Fixed(1)),
                    field("value", 0, LAST, Text),
                ])),
            ),
        ])),
    ),
    field("validate_only", 0, LAST, Fixed(1)),
];

const LIST_PARTITION_REASSIGNMENTS: &[Field] = &[
    field("timeout_ms", 0, LAST, Fixed(4)),
    field(
        "topics",
        0,
        LAST,
        Array(&Struct(&[
            field("name", 0, LAST, Text),
            field("partition_indexes", 0, LAST, Array(&Fixed(4))),
        ])),
    ),
];

const OFFSET_DELETE: &[Field] = &[
    field("group_id", 0, LAST, Text),
    field(
        "topics",
        0,
        LAST,
        Array(&Struct(&[
            field("name", 0, LAST, Topic),
            field(
                "partitions",
                0,
                LAST,
                Array(&Struct(&[field("partition_index", 0, LAST, Fixed(4))])),
            ),
        ])),
    ),
];

const DESCRIBE_CLUSTER: &[Field] = &[
    field("include_cluster_authorized_operations", 0, LAST, Fixed(1)),
    field("endpoint_type", 1, LAST, Fixed(1)),
    field("include_fenced_brokers", 2, LAST, Fixed(1)),
];

const DESCRIBE_TOPIC_PARTITIONS: &[Field] = &[
    field("topics", 0, LAST, Array(&Struct(&[field("name", 0, LAST, Text)]))),
    field("response_partition_limit", 0, LAST, Fixed(4)),
    field(
        "cursor",
        0,
        LAST,
        Optional(&[
            field("topic_name", 0, LAST, Text),
            field("partition_index", 0, LAST, Fixed(4)),
        ]),
    ),
];
