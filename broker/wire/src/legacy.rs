//! Versions that Apache Kafka 4 and `kafka-protocol` gave up and old clients still send:
//! `CreateTopics` 0-1, `DeleteTopics` 0, `DescribeConfigs` 0. They are later versions with a field
//! less, so they are read and written as those.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    DescribeConfigsRequest, DescribeConfigsResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable};

const THROTTLE_TIME_BYTES: usize = 4;
const DEFAULT_CONFIG: i8 = 5;

/// Reads `CreateTopics` v0-1.
pub fn create_topics_request(version: i16, body: &Bytes) -> Option<CreateTopicsRequest> {
    decode(body, version == 0, 2)
}

/// Writes `CreateTopics` v0-1.
pub fn create_topics_response(version: i16, response: &CreateTopicsResponse) -> Option<Bytes> {
    if version > 0 {
        return without_throttle_time(response, 2);
    }
    let mut buffer = BytesMut::new();
    buffer.put_i32(count(response.topics.len())?);
    for topic in &response.topics {
        put_string(&mut buffer, Some(&topic.name))?;
        buffer.put_i16(topic.error_code);
    }
    Some(buffer.freeze())
}

/// Reads `DeleteTopics` v0.
pub fn delete_topics_request(body: &Bytes) -> Option<DeleteTopicsRequest> {
    decode(body, false, 1)
}

/// Writes `DeleteTopics` v0.
pub fn delete_topics_response(response: &DeleteTopicsResponse) -> Option<Bytes> {
    without_throttle_time(response, 1)
}

/// Reads `DescribeConfigs` v0.
pub fn describe_configs_request(body: &Bytes) -> Option<DescribeConfigsRequest> {
    decode(body, true, 1)
}

/// Writes `DescribeConfigs` v0.
pub fn describe_configs_response(response: &DescribeConfigsResponse) -> Option<Bytes> {
    let mut buffer = BytesMut::new();
    buffer.put_i32(response.throttle_time_ms);
    buffer.put_i32(count(response.results.len())?);
    for result in &response.results {
        buffer.put_i16(result.error_code);
        put_string(&mut buffer, result.error_message.as_deref())?;
        buffer.put_i8(result.resource_type);
        put_string(&mut buffer, Some(&result.resource_name))?;
        buffer.put_i32(count(result.configs.len())?);
        for config in &result.configs {
            put_string(&mut buffer, Some(&config.name))?;
            put_string(&mut buffer, config.value.as_deref())?;
            buffer.put_u8(u8::from(config.read_only));
            buffer.put_u8(u8::from(config.config_source == DEFAULT_CONFIG));
            buffer.put_u8(u8::from(config.is_sensitive));
        }
    }
    Some(buffer.freeze())
}

/// Decodes as `version`, whose last field is a boolean that the body may lack.
fn decode<T: Decodable>(body: &Bytes, lacks_flag: bool, version: i16) -> Option<T> {
    let mut body = if lacks_flag {
        let mut longer = BytesMut::with_capacity(body.len() + 1);
        longer.put_slice(body);
        longer.put_u8(0);
        longer.freeze()
    } else {
        body.clone()
    };
    T::decode(&mut body, version).ok()
}

fn without_throttle_time<T: Encodable>(response: &T, version: i16) -> Option<Bytes> {
    let mut buffer = BytesMut::new();
    response.encode(&mut buffer, version).ok()?;
    let mut bytes = buffer.freeze();
    (bytes.len() >= THROTTLE_TIME_BYTES).then(|| bytes.split_off(THROTTLE_TIME_BYTES))
}

fn put_string(buffer: &mut BytesMut, text: Option<&str>) -> Option<()> {
    match text {
        Some(text) => {
            buffer.put_i16(i16::try_from(text.len()).ok()?);
            buffer.put_slice(text.as_bytes());
        }
        None => buffer.put_i16(-1),
    }
    Some(())
}

fn count(length: usize) -> Option<i32> {
    i32::try_from(length).ok()
}
