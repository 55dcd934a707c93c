use std::{io, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestKind, ResponseKind};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::ANSWER_DEADLINE;

const LENGTH_BYTES: usize = 4;
/// Read at once when nothing is known of the next answer's length.
const READ_BYTES: usize = 64 << 10;
/// Every request has this number; answers come in the order of requests.
const CORRELATION_ID: i32 = 1;

/// A request as it goes over the wire, and what its answer is.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    bytes: Bytes,
    key: ApiKey,
    version: i16,
}

impl Frame {
    pub(crate) fn encode(version: i16, request: &RequestKind) -> io::Result<Self> {
        let key = key(request)?;
        let mut bytes = BytesMut::new();
        bytes.put_i32(0);
        bytes.put_i16(number(key));
        bytes.put_i16(version);
        bytes.put_i32(CORRELATION_ID);
        bytes.put_i16(5);
        bytes.put_slice(b"bench");
        if key.request_header_version(version) >= 2 {
            bytes.put_u8(0);
        }
        request.encode(&mut bytes, version).map_err(io::Error::other)?;
        let length = u32::try_from(bytes.len() - LENGTH_BYTES).map_err(io::Error::other)?;
        for (to, from) in bytes.iter_mut().zip(length.to_be_bytes()) {
            *to = from;
        }
        Ok(Self { bytes: bytes.freeze(), key, version })
    }
}

/// A client that speaks frames.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    received: BytesMut,
}

impl Connection {
    pub(crate) async fn open(brokers: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(brokers).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: BytesMut::new() })
    }

    pub(crate) async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.stream.write_all(&frame.bytes).await
    }

    /// The next answer, which is that to `frame`.
    pub(crate) async fn receive(&mut self, frame: &Frame) -> io::Result<ResponseKind> {
        let mut answer = timeout(ANSWER_DEADLINE, self.next())
            .await
            .map_err(|_elapsed| io::Error::other("the broker did not answer"))??;
        let header = if frame.key.response_header_version(frame.version) >= 1 { 5 } else { 4 };
        if answer.len() < header || answer.get_i32() != CORRELATION_ID {
            return Err(io::Error::other("an answer to another request"));
        }
        answer.advance(header - 4);
        ResponseKind::decode(frame.key, &mut answer, frame.version).map_err(io::Error::other)
    }

    pub(crate) async fn call(&mut self, frame: &Frame) -> io::Result<ResponseKind> {
        self.send(frame).await?;
        self.receive(frame).await
    }

    async fn next(&mut self) -> io::Result<Bytes> {
        loop {
            let wanted = match self.received.first_chunk::<LENGTH_BYTES>() {
                Some(length) => {
                    let length = u32::from_be_bytes(*length);
                    LENGTH_BYTES + usize::try_from(length).map_err(io::Error::other)?
                }
                None => READ_BYTES,
            };
            if self.received.len() >= wanted {
                let mut answer = self.received.split_to(wanted).freeze();
                answer.advance(LENGTH_BYTES);
                return Ok(answer);
            }
            self.received.reserve(wanted - self.received.len());
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Opens `count` connections.
pub(crate) async fn open_many(brokers: &Arc<str>, count: usize) -> io::Result<Vec<Connection>> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        connections.push(Connection::open(brokers).await?);
    }
    Ok(connections)
}

fn key(request: &RequestKind) -> io::Result<ApiKey> {
    match request {
        RequestKind::Produce(_) => Ok(ApiKey::Produce),
        RequestKind::Fetch(_) => Ok(ApiKey::Fetch),
        RequestKind::CreateTopics(_) => Ok(ApiKey::CreateTopics),
        RequestKind::DeleteTopics(_) => Ok(ApiKey::DeleteTopics),
        _ => Err(io::Error::other("a request that the generator does not send")),
    }
}

#[expect(clippy::as_conversions, reason = "the enum's values are the keys, as i16")]
fn number(key: ApiKey) -> i16 {
    key as i16
}
