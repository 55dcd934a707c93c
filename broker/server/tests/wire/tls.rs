//! The listener with TLS: that it says what the other one says, and whom it turns away.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{
    ApiKey, DescribeClusterRequest, FindCoordinatorRequest, MetadataRequest, RequestKind,
    ResponseKind,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use server::{Config, Keystore, Limits, SslListener};
use tokio::time::Instant;
use uuid::Uuid;

use crate::client::{Client, Running, number};
use crate::every_version::{api_versions, topic_id};
use crate::requests::{batch, fetch, produce, text};

const KEYSTORE: &[u8] = include_bytes!("../../../../tests/tls/keystore.pem");
const CA: &[u8] = include_bytes!("../../../../tests/tls/ca.pem");

type Sealed = StreamOwned<ClientConnection, TcpStream>;

/// A second, by far, is more than any of it takes.
const SOON: Duration = Duration::from_secs(5);
const HANDSHAKE_LIMIT: Duration = Duration::from_millis(300);
const STUCK_BYTES: usize = 24 << 20;

fn house() -> Running {
    house_with(Limits::default())
}

fn house_with(limits: Limits) -> Running {
    let keystore = Keystore::from_pem(KEYSTORE).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let ssl = Some(SslListener { address, advertised: None, keystore });
    Running::with(Config { ssl, limits, ..Config::default() })
}

fn roots(pem: &[u8]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.unwrap()).unwrap();
    }
    roots
}

fn connect(
    broker: &Running,
    version: &'static rustls::SupportedProtocolVersion,
    roots: RootCertStore,
) -> Sealed {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(session, raw(broker.ssl_address.unwrap()))
}

fn raw(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn client(broker: &Running) -> Client<Sealed> {
    Client::over(connect(broker, &TLS13, roots(CA)))
}

/// Whether both doors are open to those who knock as they should.
fn is_served(broker: &Running) {
    let begun = Instant::now();
    assert!(!api_versions(&mut broker.client()).api_keys.is_empty());
    let request = RequestKind::Metadata(MetadataRequest::default().with_topics(None));
    client(broker).call(ApiKey::Metadata, 9, &request);
    assert!(begun.elapsed() < SOON);
}

/// A batch of one value that no cipher and no copy can mix up with another.
fn numbered(size: usize, seed: usize) -> Bytes {
    let numbers = (seed..).map(|number| format!("{number:07} "));
    let value: String = numbers.take(size / 8).collect();
    batch(5, &[&value])
}

/// Fetches everything from an offset on; the answer as it came.
fn fetch_all<S: Read + Write>(
    client: &mut Client<S>,
    topic: (&str, Uuid),
    offset: i64,
    most: i32,
) -> Bytes {
    let mut request = fetch(12, topic, offset, (1, most, 0));
    if let RequestKind::Fetch(fetch) = &mut request {
        fetch.max_bytes = most;
    }
    client.send(ApiKey::Fetch, 12, &request);
    client.receive(ApiKey::Fetch, 12).1
}

/// So many bytes, in batches from less than a TLS record to more than several steps.
fn fill<S: Read + Write>(client: &mut Client<S>, topic: (&str, Uuid), bytes: usize) {
    let sizes = [100, 40_000, 900_000, 31_000, 65_536, 262_144, 700_001];
    let mut produced = 0;
    for (seed, size) in sizes.into_iter().cycle().enumerate() {
        let request = produce(9, topic, -1, numbered(size, seed * 1_000_003));
        client.call(ApiKey::Produce, 9, &request);
        produced += size;
        if produced >= bytes {
            break;
        }
    }
}

#[test]
fn what_is_fetched_with_tls_is_byte_for_byte_what_is_fetched_without() {
    let broker = house();
    let topic = ("t", topic_id(&mut broker.client(), "t"));
    for version in [&TLS12, &TLS13] {
        fill(&mut Client::over(connect(&broker, version, roots(CA))), topic, 8 << 20);
    }
    let plain = fetch_all(&mut broker.client(), topic, 0, 50 << 20);
    assert!(plain.len() > 16 << 20, "{}", plain.len());
    for version in [&TLS12, &TLS13] {
        let mut client = Client::over(connect(&broker, version, roots(CA)));
        for offset in [0, 3, 9] {
            let plain = fetch_all(&mut broker.client(), topic, offset, 50 << 20);
            assert!(fetch_all(&mut client, topic, offset, 50 << 20) == plain, "from {offset} on");
        }
    }
}

#[test]
fn clients_are_told_the_address_of_the_listener_they_came_in_by() {
    let broker = house();
    let told = |address: SocketAddr| ("127.0.0.1".to_owned(), i32::from(address.port()));
    assert_eq!(addresses(&mut broker.client()), vec![told(broker.address); 3]);
    let ssl = broker.ssl_address.unwrap();
    assert_eq!(addresses(&mut client(&broker)), vec![told(ssl); 3]);

    let keystore = Keystore::from_pem(KEYSTORE).unwrap();
    let ssl = SslListener {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        advertised: Some("kafka.example:9093".to_owned()),
        keystore,
    };
    let advertised = Some("plain.example:9092".to_owned());
    let broker = Running::with(Config { advertised, ssl: Some(ssl), ..Config::default() });
    let told = |host: &str, port| vec![(host.to_owned(), port); 3];
    assert_eq!(addresses(&mut broker.client()), told("plain.example", 9092));
    assert_eq!(addresses(&mut client(&broker)), told("kafka.example", 9093));
}

/// What `Metadata`, `FindCoordinator` and `DescribeCluster` say of where the broker is.
fn addresses<S: Read + Write>(client: &mut Client<S>) -> Vec<(String, i32)> {
    let mut found = Vec::new();
    let request = RequestKind::Metadata(MetadataRequest::default());
    if let ResponseKind::Metadata(answer) = client.call(ApiKey::Metadata, 9, &request) {
        found.push((answer.brokers[0].host.to_string(), answer.brokers[0].port));
    }
    let request = FindCoordinatorRequest::default().with_key(text("group"));
    let request = RequestKind::FindCoordinator(request);
    if let ResponseKind::FindCoordinator(answer) = client.call(ApiKey::FindCoordinator, 3, &request)
    {
        found.push((answer.host.to_string(), answer.port));
    }
    let request = RequestKind::DescribeCluster(DescribeClusterRequest::default());
    if let ResponseKind::DescribeCluster(answer) = client.call(ApiKey::DescribeCluster, 0, &request)
    {
        found.push((answer.brokers[0].host.to_string(), answer.brokers[0].port));
    }
    found
}

#[test]
fn who_knocks_at_the_wrong_door_is_turned_away_at_once() {
    let broker = house();
    let begun = Instant::now();
    let mut plain = Client::connect(broker.ssl_address.unwrap());
    plain.send_raw(ApiKey::ApiVersions, 0, &[]);
    assert!(plain.is_closed());
    let mut http = Client::connect(broker.ssl_address.unwrap());
    http.stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(http.is_closed());

    let mut sealed = connect(&broker, &TLS13, roots(CA));
    sealed.sock = raw(broker.address);
    assert!(sealed.conn.complete_io(&mut sealed.sock).is_err());
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    is_served(&broker);
}

#[test]
fn a_client_that_trusts_somebody_else_goes_and_harms_nobody() {
    let broker = house();
    for version in [&TLS12, &TLS13] {
        let mut stranger = connect(&broker, version, RootCertStore::empty());
        let refusal = stranger.conn.complete_io(&mut stranger.sock).unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::InvalidData, "{refusal}");
    }
    is_served(&broker);
}

#[test]
fn a_handshake_that_stalls_ends_at_its_limit() {
    let broker = house_with(Limits { first_byte: HANDSHAKE_LIMIT, ..Limits::default() });
    let half_a_hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    for said in [&[][..], &half_a_hello] {
        let begun = Instant::now();
        let mut stalled = Client::connect(broker.ssl_address.unwrap());
        stalled.stream.write_all(said).unwrap();
        assert!(stalled.is_closed());
        let took = begun.elapsed();
        assert!((HANDSHAKE_LIMIT..SOON).contains(&took), "{took:?}");
    }
    is_served(&broker);
}

#[test]
fn handshakes_count_as_connections() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let broker = house_with(limits);
    let silent = [raw(broker.ssl_address.unwrap()), raw(broker.ssl_address.unwrap())];
    assert!(broker.client().is_closed());
    drop(silent);
}

#[test]
fn clients_that_do_not_read_keep_no_buffer_from_one_that_does() {
    let broker = house();
    let topic = ("t", topic_id(&mut broker.client(), "t"));
    // More than the system holds between two sockets, for more clients than there are buffers.
    fill(&mut broker.client(), topic, STUCK_BYTES);
    let mut request = fetch(12, topic, 0, (1, 1 << 30, 0));
    if let RequestKind::Fetch(fetch) = &mut request {
        fetch.max_bytes = 1 << 30;
    }
    let stuck: Vec<_> = (0..12)
        .map(|_| {
            let mut client = client(&broker);
            client.send(ApiKey::Fetch, 12, &request);
            client.stream.read_exact(&mut [0]).unwrap();
            client
        })
        .collect();
    let begun = Instant::now();
    let plain = fetch_all(&mut broker.client(), topic, 0, 8 << 20);
    assert!(fetch_all(&mut client(&broker), topic, 0, 8 << 20) == plain);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    drop(stuck);
}

#[test]
fn a_connection_with_tls_ends_with_a_farewell() {
    let mut broker = house();
    let mut garbage = client(&broker);
    garbage.stream.write_all(&[0x7f; 64]).unwrap();
    // Without a farewell this would be an unexpected end.
    assert_eq!(garbage.stream.read_to_end(&mut Vec::new()).unwrap(), 0);

    let mut idle = client(&broker);
    let request = RequestKind::Metadata(MetadataRequest::default());
    idle.call(ApiKey::Metadata, 9, &request);
    broker.stop();
    assert_eq!(idle.stream.read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[test]
fn frames_may_come_in_any_pieces_and_many_at_once() {
    let broker = house();
    let mut client = client(&broker);
    let mut frame = 10_i32.to_be_bytes().to_vec();
    frame.extend(number(ApiKey::ApiVersions).to_be_bytes());
    frame.extend([0, 0, 0, 0, 0, 7, 0xff, 0xff]);
    for byte in &frame {
        client.stream.write_all(&[*byte]).unwrap();
        client.stream.flush().unwrap();
    }
    let (correlation_id, alone) = client.receive(ApiKey::ApiVersions, 0);
    assert_eq!(correlation_id, 7);
    client.stream.write_all(&frame.repeat(50)).unwrap();
    for _ in 0..50 {
        assert_eq!(client.receive(ApiKey::ApiVersions, 0), (7, alone.clone()));
    }
}
