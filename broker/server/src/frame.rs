//! Reading requests from a connection without taking memory for bytes that were only announced.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;
use tokio::io::AsyncReadExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::Limits;
use crate::transport::Incoming;

/// The least and the most bytes that are read at first, and how many of each connection's are free.
/// What is small comes from the allocator's own list of the thread.
const LEAST_FIRST_READ_BYTES: usize = 1000;
const FIRST_READ_BYTES: usize = 16 << 10;
const FREE_BYTES: usize = 32 << 10;
/// However large the last frame was, no more is reserved for the next before it arrives.
const MOST_EARNED_BYTES: usize = 2 << 20;
/// How long a frame waits for others to be done before it is given up.
const MEMORY_WAIT: Duration = Duration::from_secs(5);
/// The least speed at which a large frame may arrive, beside the time limit of every frame.
const SLOWEST_BYTES_PER_SECOND: usize = 1 << 20;
const LENGTH_BYTES: usize = 4;
const API_KEY_BYTES: usize = 2;

/// The memory for requests that are being read or handled, shared by all connections.
#[derive(Clone, Debug)]
pub(crate) struct RequestMemory {
    bytes: Arc<Semaphore>,
    total: usize,
}

impl RequestMemory {
    pub(crate) fn new(total: usize) -> Self {
        let total = total.min(Semaphore::MAX_PERMITS);
        Self { bytes: Arc::new(Semaphore::new(total)), total }
    }
}

/// Why no further request comes from a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("nothing arrived within the time limit")]
    Silent,
    #[error("a request did not arrive within the time limit")]
    Slow,
    #[error("the client hung up inside a request")]
    Torn,
    #[error("a frame of {0} bytes was announced, which is not allowed")]
    FrameLength(i32),
    #[error("api key {0} is unknown")]
    UnknownApi(i16),
    #[error("the request header is malformed")]
    Header,
    #[error("there is no memory for the request")]
    NoMemory,
    #[error(transparent)]
    Socket(#[from] std::io::Error),
}

/// One request as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: Option<StrBytes>,
    pub(crate) body: Bytes,
    /// The frame's share of the memory for requests, given back when it is dropped.
    pub(crate) memory: Option<OwnedSemaphorePermit>,
}

/// Reads the frames of one connection.
#[derive(Debug)]
pub(crate) struct FrameReader<'a> {
    socket: Incoming<'a>,
    buffer: BytesMut,
    memory: RequestMemory,
    limits: Limits,
    /// The size of the last frame: as much may be taken for the next at once.
    earned: usize,
    is_first: bool,
}

impl<'a> FrameReader<'a> {
    pub(crate) fn new(socket: Incoming<'a>, memory: RequestMemory, limits: Limits) -> Self {
        Self { socket, buffer: BytesMut::new(), memory, limits, earned: 0, is_first: true }
    }

    /// The next frame's bytes, without its length; `None` when the client has hung up between
    /// two requests. `is_busy` says whether a request is still being handled: then silence is
    /// no fault.
    pub(crate) async fn next(
        &mut self,
        is_busy: impl Fn() -> bool,
    ) -> Result<Option<(Bytes, Option<OwnedSemaphorePermit>)>, ReadError> {
        if self.buffer.is_empty() && !self.wait_for_first_byte(is_busy).await? {
            return Ok(None);
        }
        self.is_first = false;
        let start = Instant::now();
        let mut deadline = start + self.limits.frame;
        self.fill(LENGTH_BYTES + API_KEY_BYTES, deadline, &mut None).await?;
        let length = self.checked_length()?;
        let seconds = u64::try_from(length / SLOWEST_BYTES_PER_SECOND).unwrap_or(0);
        deadline += Duration::from_secs(seconds);
        let mut permit = None;
        self.fill(LENGTH_BYTES + length, deadline, &mut permit).await?;
        self.earned = (LENGTH_BYTES + length).min(MOST_EARNED_BYTES);
        self.buffer.advance(LENGTH_BYTES);
        let frame = self.buffer.split_to(length).freeze();
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        Ok(Some((frame, permit)))
    }

    async fn wait_for_first_byte(&mut self, is_busy: impl Fn() -> bool) -> Result<bool, ReadError> {
        let limit = if self.is_first { self.limits.first_byte } else { self.limits.idle };
        loop {
            // A client's next request is most likely as long as its last one.
            let room = (2 * self.earned).clamp(LEAST_FIRST_READ_BYTES, FIRST_READ_BYTES);
            match timeout(limit, self.socket.first(&mut self.buffer, room)).await {
                Ok(Ok(read)) => return Ok(read > 0),
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return Ok(false);
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_elapsed) if is_busy() => {}
                Err(_elapsed) => return Err(ReadError::Silent),
            }
        }
    }

    /// The announced length, if the API may send as much.
    fn checked_length(&self) -> Result<usize, ReadError> {
        let mut head = self.buffer.as_ref();
        let announced = head.get_i32();
        let key = head.get_i16();
        let is_produce = ApiKey::try_from(key) == Ok(ApiKey::Produce);
        let limit = if is_produce {
            self.limits.produce_request_max_bytes
        } else {
            self.limits.request_max_bytes
        };
        match usize::try_from(announced) {
            Ok(length) if (API_KEY_BYTES..=limit).contains(&length) => Ok(length),
            Ok(_) | Err(_) => Err(ReadError::FrameLength(announced)),
        }
    }

    /// Reads until the buffer holds `wanted` bytes. The buffer at most doubles at a time.
    async fn fill(
        &mut self,
        wanted: usize,
        deadline: Instant,
        permit: &mut Option<OwnedSemaphorePermit>,
    ) -> Result<(), ReadError> {
        while self.buffer.len() < wanted {
            let missing = wanted - self.buffer.len();
            if self.buffer.capacity() == self.buffer.len() || self.has_earned(wanted) {
                let doubled = self.buffer.len().max(FIRST_READ_BYTES).max(self.earned);
                let step = missing.min(doubled);
                self.take_memory(self.buffer.len() + step, permit).await?;
                self.buffer.reserve(step);
            }
            match timeout_at(deadline, self.socket.read_buf(&mut self.buffer)).await {
                Ok(Ok(0)) => return Err(ReadError::Torn),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error.into()),
                Err(_elapsed) => return Err(ReadError::Slow),
            }
        }
        Ok(())
    }

    /// Whether the whole frame may be reserved at once, and is not yet.
    fn has_earned(&self, wanted: usize) -> bool {
        wanted <= self.earned && self.buffer.capacity() < wanted
    }

    async fn take_memory(
        &self,
        bytes: usize,
        permit: &mut Option<OwnedSemaphorePermit>,
    ) -> Result<(), ReadError> {
        let wanted = if bytes <= FREE_BYTES { 0 } else { bytes.min(self.memory.total) };
        let held = permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let Some(more) = wanted.checked_sub(held).filter(|more| *more > 0) else { return Ok(()) };
        let more = u32::try_from(more).map_err(|_error| ReadError::NoMemory)?;
        let acquire = Arc::clone(&self.memory.bytes).acquire_many_owned(more);
        let Ok(Ok(taken)) = timeout(MEMORY_WAIT, acquire).await else {
            return Err(ReadError::NoMemory);
        };
        match permit {
            Some(permit) => permit.merge(taken),
            None => *permit = Some(taken),
        }
        Ok(())
    }
}

/// Reads a request's header and leaves its body.
pub(crate) fn parse(
    mut bytes: Bytes,
    memory: Option<OwnedSemaphorePermit>,
) -> Result<Frame, ReadError> {
    let api_key = bytes.try_get_i16().map_err(|_error| ReadError::Header)?;
    let key = ApiKey::try_from(api_key).map_err(|()| ReadError::UnknownApi(api_key))?;
    let version = bytes.try_get_i16().map_err(|_error| ReadError::Header)?;
    let correlation_id = bytes.try_get_i32().map_err(|_error| ReadError::Header)?;
    let client_id = client_id(&mut bytes)?;
    if version >= 0 && key.request_header_version(version) >= 2 {
        let length = wire::bound::tagged_fields_len(&bytes).map_err(|_error| ReadError::Header)?;
        bytes.advance(length);
    }
    Ok(Frame { key, version, correlation_id, client_id, body: bytes, memory })
}

/// Not compact even in flexible headers.
fn client_id(bytes: &mut Bytes) -> Result<Option<StrBytes>, ReadError> {
    let length = bytes.try_get_i16().map_err(|_error| ReadError::Header)?;
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_error| ReadError::Header)?;
    if length > bytes.len() {
        return Err(ReadError::Header);
    }
    StrBytes::try_from(bytes.split_to(length)).map(Some).map_err(|_error| ReadError::Header)
}
