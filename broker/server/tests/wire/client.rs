use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestKind, ResponseKind};
use server::{Broker, Config};
use storage::{CatalogueChange, Host, Storage, simulation::OnceFree};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A broker on a port of its own, with its data in a directory that goes with it.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) ssl_address: Option<SocketAddr>,
    broker: Option<Broker>,
    storage: Storage,
    runtime: Runtime,
    _free: OnceFree,
    _data: TempDir,
}

impl Running {
    pub(crate) fn start() -> Self {
        Self::with(Config::default())
    }

    /// With retention as shipped: the tests' records are soon gone.
    pub(crate) fn as_shipped() -> Self {
        Self::as_shipped_with(Config::default())
    }

    pub(crate) fn as_shipped_with(config: Config) -> Self {
        Self::open(config, |_| {})
    }

    pub(crate) fn with(config: Config) -> Self {
        Self::open(config, keep_everything)
    }

    fn open(config: Config, prepare: impl FnOnce(&Storage)) -> Self {
        let data = TempDir::new().unwrap();
        let free = OnceFree(data.path().to_path_buf());
        let config_of_storage = storage::Config {
            journal_segment_bytes: 8 << 20,
            broker_configs: server::in_milliseconds(&config.static_configs),
            ..storage::Config::new(data.path().to_path_buf())
        };
        let (storage, _) = Storage::open(config_of_storage, Host::real()).unwrap();
        prepare(&storage);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let config = Config {
            kafka: SocketAddr::from(([127, 0, 0, 1], 0)),
            num_partitions: 1,
            group_initial_rebalance_delay: Duration::ZERO,
            ..config
        };
        let broker = runtime.block_on(Broker::start(config, storage.clone())).unwrap();
        let (address, ssl_address) = (broker.local_addr(), broker.ssl_addr());
        Self {
            address,
            ssl_address,
            broker: Some(broker),
            storage,
            runtime,
            _free: free,
            _data: data,
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// Ends the broker while its clients are still there.
    pub(crate) fn stop(&mut self) {
        self.runtime.block_on(self.broker.take().unwrap().shutdown());
    }
}

/// The tests' records are older than any retention, and than each other by years.
fn keep_everything(storage: &Storage) {
    let configs = BTreeMap::from([
        ("log.retention.ms".to_owned(), "-1".to_owned()),
        ("log.roll.ms".to_owned(), i64::MAX.to_string()),
    ]);
    let (done, changed) = std::sync::mpsc::sync_channel(1);
    let change = CatalogueChange::SetBrokerConfigs { configs };
    storage.change_catalogue(change, Box::new(move |outcome| done.send(outcome).unwrap()));
    changed.recv().unwrap().unwrap();
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(broker) = self.broker.take() {
            self.runtime.block_on(broker.shutdown());
        }
        self.storage.shutdown();
    }
}

/// A client that asks one thing at a time and looks at every byte of the answer.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
    correlation_id: i32,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, correlation_id: 0 }
    }

    /// Asks, and holds the answer's bytes equal to what the decoded answer encodes to.
    pub(crate) fn call(
        &mut self,
        key: ApiKey,
        version: i16,
        request: &RequestKind,
    ) -> ResponseKind {
        let sent = self.send(key, version, request);
        let (correlation_id, body) = self.receive(key, version);
        assert_eq!(correlation_id, sent);
        let mut rest = body.clone();
        let response = ResponseKind::decode(key, &mut rest, version)
            .unwrap_or_else(|error| panic!("{key:?} v{version}: {error}"));
        assert!(rest.is_empty(), "{key:?} v{version} leaves {} bytes", rest.len());
        let mut again = BytesMut::new();
        response.encode(&mut again, version).unwrap();
        assert_eq!(again, body, "{key:?} v{version}");
        response
    }

    pub(crate) fn send(&mut self, key: ApiKey, version: i16, request: &RequestKind) -> i32 {
        let mut body = BytesMut::new();
        request
            .encode(&mut body, version)
            .unwrap_or_else(|error| panic!("{key:?} v{version}: {error}"));
        self.send_raw(key, version, &body)
    }

    pub(crate) fn send_raw(&mut self, key: ApiKey, version: i16, body: &[u8]) -> i32 {
        self.correlation_id += 1;
        let mut frame = BytesMut::new();
        frame.put_i16(number(key));
        frame.put_i16(version);
        frame.put_i32(self.correlation_id);
        frame.put_i16(4);
        frame.put_slice(b"test");
        if key.request_header_version(version) >= 2 {
            frame.put_u8(0);
        }
        frame.put_slice(body);
        let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
        self.stream.write_all(&[&length, frame.as_ref()].concat()).unwrap();
        self.correlation_id
    }

    pub(crate) fn receive(&mut self, key: ApiKey, version: i16) -> (i32, Bytes) {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        let mut frame = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
        self.stream.read_exact(&mut frame).unwrap();
        let mut frame = Bytes::from(frame);
        let header = if key.response_header_version(version) >= 1 { 5 } else { 4 };
        let head = frame.split_to(header);
        (i32::from_be_bytes(head[..4].try_into().unwrap()), frame)
    }

    /// Whether the broker has closed the connection.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

#[expect(clippy::as_conversions, reason = "the enum's values are the keys, as i16")]
pub(crate) fn number(key: ApiKey) -> i16 {
    key as i16
}
