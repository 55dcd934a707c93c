//! What frames go over: a socket as it is, or with TLS around it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use storage::FileSlice;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::{TcpStream, tcp};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use crate::buffers::{BUFFER_BYTES, Buffers};

/// How long a client may take to let the connection's last words go out.
const FAREWELL: Duration = Duration::from_millis(250);

/// An open connection.
pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

type Session<'a> = &'a mut TlsStream<TcpStream>;

/// What comes from the client.
#[derive(Debug)]
pub(crate) enum Incoming<'a> {
    Plain(tcp::ReadHalf<'a>),
    Tls(ReadHalf<Session<'a>>),
}

/// What goes to the client.
#[derive(Debug)]
pub(crate) enum Outgoing<'a> {
    Plain(tcp::WriteHalf<'a>),
    Tls(Sealing<'a>),
}

/// What goes to the client through the cipher, which holds up to [`BUFFER_BYTES`] until they are
/// flushed.
#[derive(Debug)]
pub(crate) struct Sealing<'a> {
    session: WriteHalf<Session<'a>>,
    buffers: &'a Buffers,
}

/// Why a part of a file did not go out.
#[derive(Debug)]
pub(crate) enum SendError {
    Log(io::Error),
    Write(io::Error),
}

impl Transport {
    /// TLS after a handshake, from here on with bounded memory.
    pub(crate) fn tls(mut stream: TlsStream<TcpStream>) -> Self {
        stream.get_mut().1.set_buffer_limit(Some(BUFFER_BYTES));
        Self::Tls(Box::new(stream))
    }

    pub(crate) fn split<'a>(&'a mut self, buffers: &'a Buffers) -> (Incoming<'a>, Outgoing<'a>) {
        match self {
            Self::Plain(stream) => {
                let (incoming, outgoing) = stream.split();
                (Incoming::Plain(incoming), Outgoing::Plain(outgoing))
            }
            Self::Tls(stream) => {
                let (incoming, session) = tokio::io::split(stream.as_mut());
                (Incoming::Tls(incoming), Outgoing::Tls(Sealing { session, buffers }))
            }
        }
    }

    /// Tells a client with TLS that nothing was cut off.
    pub(crate) async fn close(self) {
        if let Self::Tls(mut stream) = self
            && let Ok(Err(error)) = timeout(FAREWELL, stream.shutdown()).await
        {
            tracing::trace!(%error, "the client left before the connection was closed");
        }
    }
}

impl Incoming<'_> {
    /// Waits for bytes without memory for them and then takes some, with `room` for more; none at
    /// the end.
    pub(crate) async fn first(&mut self, into: &mut BytesMut, room: usize) -> io::Result<usize> {
        if let Self::Plain(socket) = self {
            loop {
                socket.readable().await?;
                into.reserve(room);
                match socket.try_read_buf(into) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return read,
                }
            }
        }
        let mut byte = [0];
        let read = self.read(&mut byte).await?;
        if read > 0 {
            into.reserve(room);
            into.put_slice(&byte);
        }
        Ok(read)
    }
}

impl AsyncRead for Incoming<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, into),
            // Who hangs up without a farewell of TLS has ended all the same; frames have lengths.
            Self::Tls(session) => match ready!(Pin::new(session).poll_read(context, into)) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                read => Poll::Ready(read),
            },
        }
    }
}

impl Sealing<'_> {
    /// Encrypts up to `length` bytes of a file from `start` on and begins to send them; answers how
    /// many. What was written before goes out first: then nobody is waited for with the buffer.
    pub(crate) async fn send_part(
        &mut self,
        slice: &FileSlice,
        start: usize,
        length: usize,
    ) -> Result<usize, SendError> {
        self.session.flush().await.map_err(SendError::Write)?;
        let Some(mut buffer) = self.buffers.take().await else {
            return Err(SendError::Write(io::ErrorKind::OutOfMemory.into()));
        };
        let length = length.min(buffer.len());
        let part = buffer.get_mut(..length).unwrap_or_default();
        slice.read_part(start, part).map_err(SendError::Log)?;
        self.session.write(part).await.map_err(SendError::Write)
    }
}

impl AsyncWrite for Outgoing<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Tls(sealing) => Pin::new(&mut sealing.session).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(context, slices),
            Self::Tls(sealing) => {
                Pin::new(&mut sealing.session).poll_write_vectored(context, slices)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(context),
            Self::Tls(sealing) => Pin::new(&mut sealing.session).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Tls(sealing) => Pin::new(&mut sealing.session).poll_shutdown(context),
        }
    }
}
