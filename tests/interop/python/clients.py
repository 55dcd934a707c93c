"""confluent-kafka against a running broker, with the settings of the Python seed. Usage: clients.py BROKERS"""

import json
import subprocess
import sys
import time
import uuid

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic, ResourceType

DEADLINE_S = 30
brokers = sys.argv[1]
suffix = uuid.uuid4().hex[:8]
admin = AdminClient({"bootstrap.servers": brokers})


def until(what, condition):
    """Calls `condition` until it answers something true."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        answer = condition()
        if answer:
            return answer
    raise AssertionError(f"{what}: not within {DEADLINE_S} s")


def create(topic, partitions=3, config=None):
    # The seeds' script asks for three replicas; one node stores one.
    new = NewTopic(topic, partitions, replication_factor=3, config=config or {})
    admin.create_topics([new])[topic].result(DEADLINE_S)


def consumer(group, **more):
    # The seed's settings.
    return Consumer({
        "bootstrap.servers": brokers,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": True,
        "session.timeout.ms": 6000,
        "client.id": f"{group}-consumer",
        **more,
    })


def read(reader, count):
    """`count` messages, whatever comes between them."""
    messages = []

    def enough():
        message = reader.poll(0.5)
        if message is not None and message.error() is None:
            messages.append(message)
        elif message is not None and message.error().code() != KafkaError._PARTITION_EOF:
            raise KafkaException(message.error())
        return len(messages) >= count

    until(f"{count} messages", enough)
    return messages


def test_produce_as_s1_and_read_back():
    topic = f"s1-{suffix}"
    create(topic, config={"retention.ms": "604800000", "compression.type": "snappy"})
    delivered = []
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        producer = Producer({
            "bootstrap.servers": brokers,
            "client.id": "todo-app-producer",
            "acks": "all",
            "retries": 3,
            "max.in.flight.requests.per.connection": 5,
            "compression.type": codec,
        })
        for number in range(20):
            event = {"eventId": str(uuid.uuid4()), "number": number, "codec": codec}
            producer.produce(
                topic,
                key=str(number).encode(),
                value=json.dumps(event).encode(),
                headers=[("trace", b"1"), ("trace", b"2")],
                callback=lambda error, message: delivered.append((error, message.offset())),
            )
        assert producer.flush(DEADLINE_S) == 0
    assert len(delivered) == 100 and all(error is None for error, _ in delivered)
    reader = consumer(f"group-{suffix}")
    reader.subscribe([topic])
    messages = read(reader, 100)
    assert {json.loads(message.value())["codec"] for message in messages} == {"none", "gzip", "snappy", "lz4", "zstd"}
    assert all(message.headers() == [("trace", b"1"), ("trace", b"2")] for message in messages)
    reader.commit(asynchronous=False)
    committed = reader.committed([TopicPartition(topic, partition) for partition in range(3)], timeout=DEADLINE_S)
    assert sum(max(partition.offset, 0) for partition in committed) == 100, committed
    reader.close()


def test_transactions_are_all_or_nothing():
    topic = f"transactions-{suffix}"
    create(topic)
    producer = Producer({"bootstrap.servers": brokers, "transactional.id": f"t-{suffix}"})
    producer.init_transactions(DEADLINE_S)
    for decision in ("aborted", "committed", "aborted", "committed"):
        producer.begin_transaction()
        for partition in range(3):
            producer.produce(topic, partition=partition, value=decision)
        producer.flush(DEADLINE_S)
        (producer.commit_transaction if decision == "committed" else producer.abort_transaction)(DEADLINE_S)
    reader = consumer(f"read-committed-{suffix}", **{"isolation.level": "read_committed"})
    reader.subscribe([topic])
    assert {message.value() for message in read(reader, 6)} == {b"committed"}
    assert reader.poll(1) is None
    reader.close()


def test_a_newer_producer_fences_the_older():
    topic = f"fenced-{suffix}"
    create(topic)
    settings = {"bootstrap.servers": brokers, "transactional.id": f"fenced-{suffix}"}
    older, newer = Producer(settings), Producer(settings)
    older.init_transactions(DEADLINE_S)
    older.begin_transaction()
    older.produce(topic, value="older")
    older.flush(DEADLINE_S)
    newer.init_transactions(DEADLINE_S)
    try:
        older.commit_transaction(DEADLINE_S)
    except KafkaException as error:
        assert error.args[0].code() in (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH), error
    else:
        raise AssertionError("the fenced producer could commit")


def test_two_members_share_the_partitions():
    topic = f"shared-{suffix}"
    create(topic, partitions=4)
    first, second = consumer(f"shared-{suffix}"), consumer(f"shared-{suffix}")
    first.subscribe([topic])
    until("the first has all", lambda: (first.poll(0.1), len(first.assignment()) == 4)[1])
    second.subscribe([topic])

    def shared():
        first.poll(0.1), second.poll(0.1)
        return len(first.assignment()) == 2 and len(second.assignment()) == 2

    until("each has two", shared)
    first.close()
    until("the second has all", lambda: (second.poll(0.1), len(second.assignment()) == 4)[1])
    second.close()


def test_offsets_in_a_transaction_appear_with_it():
    topic = f"offsets-{suffix}"
    create(topic, partitions=1)
    producer = Producer({"bootstrap.servers": brokers, "transactional.id": f"offsets-{suffix}"})
    producer.init_transactions(DEADLINE_S)
    reader = consumer(f"offsets-{suffix}", **{"enable.auto.commit": False})
    reader.subscribe([topic])
    until("the reader has the partition", lambda: (reader.poll(0.1), reader.assignment())[1])

    def committed():
        return reader.committed([TopicPartition(topic, 0)], timeout=DEADLINE_S)[0]

    for offset, decision in ((5, producer.commit_transaction), (9, producer.abort_transaction)):
        producer.begin_transaction()
        position = TopicPartition(topic, 0, offset, metadata=f"at {offset}")
        producer.send_offsets_to_transaction([position], reader.consumer_group_metadata(), DEADLINE_S)
        decision(DEADLINE_S)
        assert (committed().offset, committed().metadata) == (5, "at 5"), committed()
    reader.close()


def test_a_transaction_past_its_timeout_is_aborted():
    topic = f"slow-{suffix}"
    create(topic, partitions=1)
    slow = Producer({"bootstrap.servers": brokers, "transactional.id": f"slow-{suffix}", "transaction.timeout.ms": 1000})
    slow.init_transactions(DEADLINE_S)
    slow.begin_transaction()
    slow.produce(topic, value="slow")
    slow.flush(DEADLINE_S)
    reader = consumer(f"slow-{suffix}", **{"isolation.level": "read_committed"})
    producer = Producer({"bootstrap.servers": brokers})
    producer.produce(topic, value="after")
    producer.flush(DEADLINE_S)
    reader.subscribe([topic])
    # The reader is held back by the open transaction until the broker ends it.
    assert read(reader, 1)[0].value() == b"after"
    reader.close()
    try:
        slow.commit_transaction(DEADLINE_S)
    except KafkaException:
        pass
    else:
        raise AssertionError("the transaction was committed after its timeout")


def test_a_static_member_comes_back_to_its_partitions():
    topic = f"static-{suffix}"
    create(topic, partitions=4)

    def member(instance):
        reader = consumer(f"static-{suffix}", **{"group.instance.id": instance, "session.timeout.ms": 30000})
        reader.subscribe([topic])
        return reader

    def shared():
        return [reader.poll(0.1) for reader in (first, second)] and all(
            len(reader.assignment()) == 2 for reader in (first, second)
        )

    first, second = member("first"), member("second")
    until("each has two", shared)
    before = sorted(partition.partition for partition in first.assignment())
    revoked = []
    second.unsubscribe()
    second.subscribe([topic], on_revoke=lambda _, partitions: revoked.extend(partitions))
    until("each has two again", shared)
    revoked.clear()
    first.close()
    first = member("first")
    until("the first is back", lambda: (first.poll(0.1), second.poll(0.1), len(first.assignment()) == 2)[2])
    assert sorted(partition.partition for partition in first.assignment()) == before and not revoked
    first.close(), second.close()


def test_a_member_that_is_killed_is_replaced():
    topic = f"killed-{suffix}"
    group = f"killed-{suffix}"
    create(topic, partitions=2)
    code = (
        "import sys; from confluent_kafka import Consumer\n"
        "reader = Consumer({'bootstrap.servers': sys.argv[1], 'group.id': sys.argv[2], 'session.timeout.ms': 6000})\n"
        "reader.subscribe([sys.argv[3]])\n"
        "while True: reader.poll(0.1)"
    )
    reader = consumer(group)
    reader.subscribe([topic])
    until("the first has both", lambda: (reader.poll(0.1), len(reader.assignment()) == 2)[1])
    child = subprocess.Popen([sys.executable, "-c", code, brokers, group, topic])
    try:
        until("each has one", lambda: (reader.poll(0.1), len(reader.assignment()) == 1)[1])
    finally:
        child.kill()
        child.wait()
    until("the first has both again", lambda: (reader.poll(0.1), len(reader.assignment()) == 2)[1])
    reader.close()


def test_admin_describes_changes_and_deletes():
    topic = f"admin-{suffix}"
    create(topic)
    admin.create_partitions([NewPartitions(topic, 5)])[topic].result(DEADLINE_S)
    assert len(admin.list_topics(topic, DEADLINE_S).topics[topic].partitions) == 5
    resource = ConfigResource(ResourceType.TOPIC, topic, set_config={"retention.ms": "1000000"})
    admin.alter_configs([resource])[resource].result(DEADLINE_S)
    described = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)])
    configs = next(iter(described.values())).result(DEADLINE_S)
    assert configs["retention.ms"].value == "1000000" and not configs["retention.ms"].is_default
    assert configs["cleanup.policy"].value == "delete" and configs["cleanup.policy"].is_default
    group = f"admin-group-{suffix}"
    offsets = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 0)])
    admin.alter_consumer_group_offsets([offsets])[group].result(DEADLINE_S)
    listed = admin.list_consumer_groups(request_timeout=DEADLINE_S).result(DEADLINE_S)
    assert group in {entry.group_id for entry in listed.valid} and not listed.errors
    admin.delete_consumer_groups([group])[group].result(DEADLINE_S)
    admin.delete_topics([topic])[topic].result(DEADLINE_S)
    until("the topic is gone", lambda: topic not in admin.list_topics(timeout=DEADLINE_S).topics)
    try:
        create("no/such:name")
    except KafkaException as error:
        assert error.args[0].code() == KafkaError.TOPIC_EXCEPTION, error
    else:
        raise AssertionError("a topic with a slash was created")


passed = 0
for name, test in list(globals().items()):
    if name.startswith("test_"):
        test()
        passed += 1
        print("ok", name[5:].replace("_", " "))
print(f"{passed} passed, 0 failed")
