//! A broker in a directory of its own, and a client that says exactly what it is told to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use server::{Broker, Config, SeedTopic};
use storage::{Host, Storage};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long anything may take before a test gives up.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const TOPIC: &str = "topic";
pub(crate) const PARTITIONS: i32 = 2;
pub(crate) const SERVICE_KEY: &[u8] = b"key of the services";

pub(crate) struct House {
    running: Option<(Broker, Storage)>,
    directory: TempDir,
    configure: fn(Config) -> Config,
}

/// A storage whose directory is taken away would end the process.
impl Drop for House {
    fn drop(&mut self) {
        if let Some((_, storage)) = self.running.take() {
            storage.shutdown();
        }
    }
}

impl House {
    pub(crate) async fn start() -> Self {
        Self::with(|config| config).await
    }

    /// With a configuration of its own.
    pub(crate) async fn with(configure: fn(Config) -> Config) -> Self {
        let directory = TempDir::new().unwrap();
        let running = Some(open(&directory, configure).await);
        Self { running, directory, configure }
    }

    /// Stops broker and storage, and starts both on what they left, with another configuration.
    pub(crate) async fn restart_with(&mut self, configure: fn(Config) -> Config) {
        self.configure = configure;
        self.restart().await;
    }

    /// Stops broker and storage, and starts both on what they left.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.running = Some(open(&self.directory, self.configure).await);
    }

    pub(crate) async fn stop(&mut self) {
        if let Some((broker, storage)) = self.running.take() {
            broker.shutdown().await;
            storage.shutdown();
        }
    }

    pub(crate) async fn client(&self) -> Client {
        let (broker, _) = self.running.as_ref().unwrap();
        let address = broker.local_addr();
        Client { stream: TcpStream::connect(address).await.unwrap(), correlation_id: 0 }
    }
}

async fn open(directory: &TempDir, configure: fn(Config) -> Config) -> (Broker, Storage) {
    let config = storage::Config::new(directory.path().join("data"));
    let (storage, _) = Storage::open(config, Host::real()).unwrap();
    let config = Config {
        kafka: SocketAddr::from(([127, 0, 0, 1], 0)),
        service_key: Some(SERVICE_KEY.to_vec()),
        closed_prefixes: vec!["__auth.".to_owned()],
        group_initial_rebalance_delay: Duration::ZERO,
        seed_topics: vec![SeedTopic {
            name: TOPIC.to_owned(),
            partitions: PARTITIONS,
            // The tests' records are older than any retention, and than each other by years.
            configs: BTreeMap::from([
                ("retention.ms".to_owned(), "-1".to_owned()),
                ("segment.ms".to_owned(), i64::MAX.to_string()),
            ]),
        }],
        ..Config::default()
    };
    (Broker::start(configure(config), storage.clone()).await.unwrap(), storage)
}

pub(crate) struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    /// Sends a request and waits for its answer, of which nothing may be left over.
    pub(crate) async fn call<Q: Request>(&mut self, version: i16, request: &Q) -> Q::Response {
        self.send(version, request).await;
        self.receive::<Q>(version).await
    }

    pub(crate) async fn send<Q: Request>(&mut self, version: i16, request: &Q) {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(Q::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("test")));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, Q::header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        self.send_frame(&frame).await;
    }

    pub(crate) async fn receive<Q: Request>(&mut self, version: i16) -> Q::Response {
        let mut frame = self.receive_frame().await.expect("an answer");
        let header_version = <Q::Response as HeaderVersion>::header_version(version);
        let header = ResponseHeader::decode(&mut frame, header_version).unwrap();
        assert_eq!(header.correlation_id, self.correlation_id);
        let response = Q::Response::decode(&mut frame, version).unwrap();
        assert!(frame.is_empty(), "bytes after the response to {} v{version}", Q::KEY);
        response
    }

    pub(crate) async fn send_frame(&mut self, frame: &[u8]) {
        let mut bytes = BytesMut::new();
        bytes.put_i32(i32::try_from(frame.len()).unwrap());
        bytes.put_slice(frame);
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// The next frame, or `None` when the broker closed the connection.
    pub(crate) async fn receive_frame(&mut self) -> Option<Bytes> {
        let receive = async {
            let mut length = [0; 4];
            self.stream.read_exact(&mut length).await.ok()?;
            let length = usize::try_from((&mut length.as_slice()).get_i32()).unwrap();
            let mut frame = vec![0; length];
            self.stream.read_exact(&mut frame).await.ok()?;
            Some(Bytes::from(frame))
        };
        timeout(DEADLINE, receive).await.expect("an answer in time")
    }
}

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
