//! One connection: a reader, the handling of one request after the other, and a writer that keeps
//! the order of the answers. The three share one task, so a panic in any of them ends all.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use storage::FileSlice;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;
use wire::bound;

use crate::context::{Broker, Context};
use crate::dispatch::{APIS, Body, Failure, Piece, Reply, Request};
use crate::frame::{self, Frame, FrameReader, ReadError, RequestMemory};
use crate::handlers::{api_versions, sasl_authenticate};
use crate::listener::Accepted;
use crate::settle::settle;
use crate::tasks;
use crate::traffic::Traffic;
use crate::transport::{Outgoing, SendError};

/// In front of every frame.
const LENGTH_BYTES: usize = 4;
/// Answers that wait for their turn or for something to happen.
const PENDING_REPLIES: usize = 32;
/// Of answers that take more memory than this, one waits for its turn and one is being sent.
const LARGE_ANSWER_BYTES: usize = 1 << 20;
/// At most this many pieces go into one write.
const MAX_SLICES: usize = 64;
/// Records of so many bytes or more go from the page cache to the socket without a copy here.
const SENT_FROM_BYTES: usize = 32 << 10;
/// So much is sent at a time.
const FILE_STEP_BYTES: usize = 256 << 10;
/// So much is read from the disk at a time while somebody waits for the journal, which is on it.
const PACED_STEP_BYTES: usize = 128 << 10;

/// Why a connection ended, other than by the client's wish.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{key:?} version {version}: {why}")]
    Request { key: ApiKey, version: i16, why: Failure },
    #[error("{key:?} version {version}: {why}")]
    Bound { key: ApiKey, version: i16, why: bound::FrameError },
    #[error("{key:?} version {version} is not served")]
    Unsupported { key: ApiKey, version: i16 },
    #[error("the client does not read its answers")]
    WriteTimeout,
    #[error("the answer could not be written: {0}")]
    Write(std::io::Error),
    #[error("the log could not be read: {0}")]
    Log(std::io::Error),
}

impl Ended {
    /// Whether any client can bring it about.
    fn is_clients(&self) -> bool {
        match self {
            Self::Read(_)
            | Self::Request { .. }
            | Self::Bound { .. }
            | Self::Unsupported { .. }
            | Self::WriteTimeout
            | Self::Write(_) => true,
            Self::Log(_) => false,
        }
    }
}

impl From<SendError> for Ended {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Log(error) => Self::Log(error),
            SendError::Write(error) => Self::Write(error),
        }
    }
}

/// An answer on its way to the writer, with the memory of its request.
struct Pending {
    key: ApiKey,
    version: i16,
    /// None where only the body is answered.
    correlation_id: Option<i32>,
    reply: Reply,
    memory: Option<OwnedSemaphorePermit>,
}

impl Pending {
    fn bytes_in_memory(&self) -> usize {
        match &self.reply {
            Reply::Now(body) => body.bytes_in_memory(),
            Reply::Later(_) => 0,
        }
    }
}

/// Serves one client until it hangs up, misbehaves, or the broker stops.
pub(crate) async fn serve(accepted: Accepted, broker: Arc<Broker>, memory: RequestMemory) {
    let (peer, door) = (accepted.peer, Arc::clone(&accepted.door));
    let advertised = door.advertised.clone();
    let opened = tokio::select! {
        opened = accepted.open(broker.config.limits.first_byte) => opened,
        () = broker.stop.cancelled() => None,
    };
    let Some(mut transport) = opened else { return };
    let closed = broker.stop.child_token();
    let (read_half, write_half) = transport.split(&broker.buffers);
    let (frames_in, frames) = mpsc::channel(1);
    let (replies_in, replies) = mpsc::channel(PENDING_REPLIES);
    let unanswered = AtomicUsize::new(0);
    let reader = FrameReader::new(read_half, memory, broker.config.limits.clone());
    let mut context = Context::new(Arc::clone(&broker), peer, advertised, closed.clone());

    let mut read_result = Ok(());
    let reading = async {
        tokio::select! {
            biased;
            result = read(reader, frames_in, &unanswered, &broker.traffic) => read_result = result,
            () = broker.stop.cancelled() => {}
        }
        closed.cancel();
        std::future::pending::<()>().await;
    };
    // Without the reader no frame comes, without frames no reply, and all end in this order; what
    // was asked before is still answered.
    let working = async {
        let handling = async { Ok(handle(&mut context, frames, replies_in).await) };
        let writing = write(write_half, replies, &broker, &unanswered);
        let (handled, ()) = tokio::try_join!(handling, writing)?;
        handled
    };
    // The reader first: then one turn takes a frame from the socket to the storage.
    let all = async {
        tokio::select! {
            biased;
            () = reading => Ok(()),
            result = working => result,
        }
    };
    let result = settle(all).await;
    closed.cancel();
    match result.and(read_result) {
        Ok(()) => {}
        // A client that leaves without waiting for its answers is no fault of anybody's.
        Err(why @ Ended::Write(_)) => tracing::debug!(%peer, %why, "connection closed"),
        Err(why) if why.is_clients() && !door.misbehaved.now() => {
            tracing::debug!(%peer, %why, "connection closed");
        }
        Err(why) => tracing::warn!(%peer, %why, "connection closed"),
    }
    transport.close().await;
}

type RawFrame = (Bytes, Option<OwnedSemaphorePermit>);

async fn read(
    mut reader: FrameReader<'_>,
    frames: mpsc::Sender<RawFrame>,
    unanswered: &AtomicUsize,
    traffic: &Traffic,
) -> Result<(), Ended> {
    while let Some(frame) = reader.next(|| unanswered.load(Ordering::Relaxed) > 0).await? {
        unanswered.fetch_add(1, Ordering::Relaxed);
        traffic.received(LENGTH_BYTES + frame.0.len());
        if frames.send(frame).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn handle(
    context: &mut Context,
    mut frames: mpsc::Receiver<RawFrame>,
    replies: mpsc::Sender<Pending>,
) -> Result<(), Ended> {
    while let Some((bytes, memory)) = frames.recv().await {
        let pending = if context.sasl.expects_raw_token() {
            raw_token(context, &bytes)?
        } else {
            handle_one(context, frame::parse(bytes, memory)?).await?
        };
        if pending.bytes_in_memory() > LARGE_ANSWER_BYTES {
            // It waits until those in front of it are sent, and the next request for it.
            drop(replies.reserve_many(PENDING_REPLIES).await);
        }
        // A client that failed to authenticate is told so, and that is the last thing it is told.
        if replies.send(pending).await.is_err() || context.sasl.is_refused() {
            break;
        }
    }
    Ok(())
}

/// A SASL token without a request around it; the answer is a frame with nothing in it.
fn raw_token(context: &mut Context, token: &[u8]) -> Result<Pending, Ended> {
    let (key, version) = (ApiKey::SaslHandshake, 0);
    sasl_authenticate::authenticate(context, token).map_err(|_refused| Ended::Request {
        key,
        version,
        why: Failure::Unauthenticated,
    })?;
    let reply = Reply::Now(Body::default());
    Ok(Pending { key, version, correlation_id: None, reply, memory: None })
}

async fn handle_one(context: &mut Context, frame: Frame) -> Result<Pending, Ended> {
    let Frame { key, version, correlation_id, client_id, body, memory } = frame;
    let failed = |why| Ended::Request { key, version, why };
    let correlation_id = Some(correlation_id);
    let pending = |version, reply| Pending { key, version, correlation_id, reply, memory };
    let api = APIS.iter().find(|api| api.key == key);
    let served = api.filter(|api| (api.accepted.0..=api.accepted.1).contains(&version));
    let Some(api) = served else {
        return match key {
            ApiKey::ApiVersions => {
                let refusal = api_versions::unsupported().map_err(failed)?;
                Ok(pending(0, Reply::Now(refusal)))
            }
            _ => Err(Ended::Unsupported { key, version }),
        };
    };
    bound::check(api.number(), version, &body).map_err(|why| Ended::Bound { key, version, why })?;
    context.client_id = client_id;
    let reply = (api.handle)(context, Request { version, body }).await.map_err(failed)?;
    Ok(pending(version, reply))
}

async fn write(
    mut socket: Outgoing<'_>,
    mut replies: mpsc::Receiver<Pending>,
    broker: &Broker,
    unanswered: &AtomicUsize,
) -> Result<(), Ended> {
    while let Some(pending) = replies.recv().await {
        let Pending { key, version, correlation_id, reply, memory } = pending;
        let body = match reply {
            Reply::Now(body) => Some(body),
            Reply::Later(body) => body.await.map_err(|why| Ended::Request { key, version, why })?,
        };
        drop(memory);
        if let Some(body) = body {
            let has_tags = key.response_header_version(version) >= 1;
            let head = head(correlation_id, has_tags, body.len()).ok_or(Ended::Request {
                key,
                version,
                why: Failure::Unencodable,
            })?;
            let bytes = head.len() + body.len();
            write_pieces(&mut socket, head, body, broker).await?;
            broker.traffic.sent(bytes);
        }
        unanswered.fetch_sub(1, Ordering::Relaxed);
    }
    Ok(())
}

/// The response's length and header.
fn head(correlation_id: Option<i32>, has_tags: bool, body_bytes: usize) -> Option<Bytes> {
    let header_bytes = correlation_id.map_or(0, |_| if has_tags { 5 } else { 4 });
    let mut head = BytesMut::with_capacity(4 + header_bytes);
    head.put_i32(i32::try_from(header_bytes + body_bytes).ok()?);
    if let Some(correlation_id) = correlation_id {
        head.put_i32(correlation_id);
        if has_tags {
            head.put_u8(0);
        }
    }
    Some(head.freeze())
}

async fn write_pieces(
    socket: &mut Outgoing<'_>,
    head: Bytes,
    body: Body,
    broker: &Broker,
) -> Result<(), Ended> {
    let limit = broker.config.limits.frame;
    let mut ready = VecDeque::from([head]);
    let mut ready_bytes = 0;
    for piece in body.0 {
        ready_bytes += piece.len();
        if ready_bytes >= FILE_STEP_BYTES {
            write_all(socket, &mut ready, limit).await?;
            ready_bytes = 0;
        }
        match piece {
            Piece::Bytes(bytes) => ready.push_back(bytes),
            // A short one costs fewer calls when it goes out together with what is around it.
            Piece::File(slice)
                if slice.length < SENT_FROM_BYTES && slice.is_cached(0, slice.length) =>
            {
                ready.push_back(slice.load().map_err(Ended::Log)?);
            }
            Piece::File(slice) => {
                write_all(socket, &mut ready, limit).await?;
                send_file(socket, &slice, broker).await?;
            }
        }
    }
    write_all(socket, &mut ready, limit).await?;
    match timeout(limit, socket.flush()).await {
        Ok(flushed) => flushed.map_err(Ended::Write),
        Err(_elapsed) => Err(Ended::WriteTimeout),
    }
}

/// Sends records from the page cache. What is not there is read before, by a thread that may wait
/// for the disk; what comes next is read ahead unless somebody waits for the journal.
async fn send_file(
    socket: &mut Outgoing<'_>,
    slice: &FileSlice,
    broker: &Broker,
) -> Result<(), Ended> {
    let limit = broker.config.limits.frame;
    let (mut sent, mut was_cold, mut was_ever_cold) = (0, false, false);
    while sent < slice.length {
        let beside_commits = broker.storage.is_committing();
        let length = FILE_STEP_BYTES.min(slice.length - sent);
        // Where nothing is read ahead, asking would begin a read of the first page by itself.
        let is_cached = !(beside_commits && was_cold) && slice.is_cached(sent, length);
        was_cold = !is_cached;
        was_ever_cold |= was_cold;
        if beside_commits || !is_cached {
            slice.set_read_ahead(!beside_commits, sent);
        }
        let bytes = if !is_cached {
            load_cold(slice, sent, length, beside_commits).await?
        } else if let Some(step) = send_cached(socket, slice, sent..sent + length, limit).await? {
            sent += step;
            continue;
        } else {
            slice.load_part(sent, length).map_err(Ended::Log)?
        };
        sent += bytes.len();
        write_all(socket, &mut VecDeque::from([bytes]), limit).await?;
    }
    slice.passed(was_ever_cold);
    Ok(())
}

/// Reads up to `length` bytes of a slice from the disk; few of them beside commits.
async fn load_cold(
    slice: &FileSlice,
    from: usize,
    length: usize,
    beside_commits: bool,
) -> Result<Bytes, Ended> {
    let length = if beside_commits { length.min(PACED_STEP_BYTES) } else { length };
    let slice = slice.clone();
    let read = move || slice.load_part(from, length);
    tasks::waiting_for_disk(beside_commits, read).await.flatten().map_err(Ended::Log)
}

/// Sends a part of a slice from the page cache; answers how much, or nothing where that cannot be done.
async fn send_cached(
    socket: &mut Outgoing<'_>,
    slice: &FileSlice,
    part: Range<usize>,
    limit: Duration,
) -> Result<Option<usize>, Ended> {
    let stream: &TcpStream = match socket {
        Outgoing::Plain(half) => (*half).as_ref(),
        Outgoing::Tls(sealing) => {
            let sending = sealing.send_part(slice, part.start, part.len());
            return match timeout(limit, sending).await {
                Ok(sent) => sent.map(Some).map_err(Ended::from),
                Err(_elapsed) => Err(Ended::WriteTimeout),
            };
        }
    };
    let by_kernel = || slice.send_part(stream.as_fd(), part.start, part.len());
    match timeout(limit, stream.async_io(Interest::WRITABLE, by_kernel)).await {
        // The file cannot have become shorter.
        Ok(Ok(0)) => Err(Ended::Log(std::io::ErrorKind::UnexpectedEof.into())),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::Unsupported => Ok(None),
        Ok(Ok(step)) => Ok(Some(step)),
        Ok(Err(error)) => Err(Ended::Write(error)),
        Err(_elapsed) => Err(Ended::WriteTimeout),
    }
}

async fn write_all(
    socket: &mut Outgoing<'_>,
    pieces: &mut VecDeque<Bytes>,
    limit: Duration,
) -> Result<(), Ended> {
    pieces.retain(|piece| !piece.is_empty());
    while !pieces.is_empty() {
        let slices: Vec<_> =
            pieces.iter().take(MAX_SLICES).map(|piece| IoSlice::new(piece)).collect();
        let mut written = match timeout(limit, socket.write_vectored(&slices)).await {
            Ok(Ok(0)) => return Err(Ended::Write(std::io::ErrorKind::WriteZero.into())),
            Ok(Ok(written)) => written,
            Ok(Err(error)) => return Err(Ended::Write(error)),
            Err(_elapsed) => return Err(Ended::WriteTimeout),
        };
        while let Some(front) = pieces.front_mut().filter(|_| written > 0) {
            let step = written.min(front.len());
            front.advance(step);
            written -= step;
            if front.is_empty() {
                pieces.pop_front();
            }
        }
    }
    Ok(())
}
