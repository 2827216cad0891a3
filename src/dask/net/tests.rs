//! Connections over loopback, to this process and to sockets that misbehave.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use async_io::{Timer, block_on};
use bytes::Bytes;
use futures_lite::future::{or, zip};
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, KeyPair};

use super::*;
use crate::dask::wire::frame::Outgoing;
use crate::dask::wire::value::Value;
use crate::dask::wire::{call, handshake, unpack};

const SOON: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test, which fails after two minutes.
fn run<T>(test: impl Future<Output = T>) -> T {
    let late = async {
        Timer::after(Duration::from_secs(120)).await;
        panic!("the test hangs");
    };
    block_on(or(test, late))
}

/// Answers each message with itself, until the other side closes the connection.
async fn echo(mut comm: Comm) {
    while let Ok(Some(frames)) = comm.receive().await {
        if comm.send(Outgoing::new(frames)).await.is_err() {
            break;
        }
    }
}

/// Runs a test beside a listener with this handler.
async fn beside<T, F: Future<Output = ()> + Send>(
    tls: Option<&Tls>,
    handler: impl Fn(Comm) -> F + Send + Sync + 'static,
    test: impl AsyncFnOnce(Address) -> T,
) -> T {
    let listener = Listener::bind("127.0.0.1", 0, tls.cloned()).await.unwrap();
    let address = listener.address().clone();
    let serve = async { match listener.serve(handler).await {} };
    or(test(address), serve).await
}

/// Listens with plain sockets. `play` is the other side of each connection in turn, on a thread of its own.
fn rogue(mut play: impl FnMut(usize, TcpStream) + Send + 'static) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for (at, stream) in listener.incoming().enumerate() {
            play(at, stream.unwrap());
        }
    });
    Address { tls: false, host: "127.0.0.1".to_owned(), port }
}

fn greet(stream: &mut TcpStream) {
    stream.write_all(&handshake::ours().to_vec()).unwrap();
    read_message(stream).unwrap();
}

fn read_message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 8];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; u64::from_le_bytes(length) as usize];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}

#[test]
fn messages_are_echoed_unchanged() {
    run(beside(None, echo, async |address| {
        let mut comm = Comm::connect(&address, None, PATIENCE).await.unwrap();
        assert_eq!(comm.peer(), address.to_string());
        assert_eq!(comm.local_ip(), Some("127.0.0.1".parse().unwrap()));
        for size in [0, 1, 100, 1 << 16, 10 << 20] {
            let frames = vec![Bytes::from_static(b"\xc0"), vec![7; size].into()];
            comm.send(Outgoing::new(frames.clone())).await.unwrap();
            assert_eq!(comm.receive_within(PATIENCE).await.unwrap(), Some(frames));
        }
        let answer = comm.call(call::ping(), PATIENCE).await.unwrap();
        assert_eq!(answer.as_map().unwrap().text("op"), Some("ping"));
    }));
}

#[test]
fn both_directions_are_used_concurrently() {
    let certificates = Certificates::new();
    let tls = certificates.tls("one");
    for tls in [None, Some(&tls)] {
        let chatter = |comm: Comm| async {
            let (mut writer, mut reader) = comm.split();
            let message = || Outgoing::new([vec![0xc0; 1 << 20].into()]);
            let write = async {
                for _ in 0..20 {
                    writer.send_within(message(), PATIENCE).await.unwrap();
                }
            };
            let read = async {
                for _ in 0..20 {
                    let frames = reader.receive_within(PATIENCE).await.unwrap().unwrap();
                    assert_eq!(frames[0].len(), 1 << 20);
                }
            };
            zip(write, read).await;
            // Until the other side has read everything as well, closing would break the connection.
            writer.send_within(call::ok(), PATIENCE).await.unwrap();
            assert!(reader.receive_within(PATIENCE).await.unwrap().is_some());
        };
        run(beside(tls, chatter, async |address| {
            chatter(Comm::connect(&address, tls, PATIENCE).await.unwrap()).await;
        }));
    }
}

#[test]
fn a_closed_connection_is_distinguished_from_a_truncated_message() {
    let address = rogue(|at, mut stream| {
        greet(&mut stream);
        if at == 1 {
            stream.write_all(&call::ok().to_vec()[..20]).unwrap();
        }
    });
    run(async {
        let mut comm = Comm::connect(&address, None, PATIENCE).await.unwrap();
        assert_eq!(comm.receive().await.unwrap(), None);
        let mut comm = Comm::connect(&address, None, PATIENCE).await.unwrap();
        let error = comm.receive().await.unwrap_err().to_string();
        let cut =
            format!("the connection to {address} broke: it was closed in the middle of a message");
        assert_eq!(error, cut);
    });
}

#[test]
fn other_protocols_are_errors() {
    let address = rogue(|at, mut stream| {
        if at > 0 {
            greet(&mut stream);
        }
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = read_message(&mut stream);
    });
    run(async {
        let error = Comm::connect(&address, None, PATIENCE).await.unwrap_err();
        assert!(matches!(error, NetError::Handshake { .. }), "{error}");
        let mut comm = Comm::connect(&address, None, PATIENCE).await.unwrap();
        let error = comm.call(call::ping(), PATIENCE).await.unwrap_err();
        assert!(matches!(error, NetError::Wire { .. }), "{error}");
    });
}

#[test]
fn a_silent_peer_times_out() {
    let (hold, held) = mpsc::channel();
    let address = rogue(move |at, mut stream| {
        if at > 0 {
            greet(&mut stream);
        }
        hold.send(stream).unwrap();
    });
    run(async {
        let error = Comm::connect(&address, None, SOON).await.unwrap_err();
        assert_eq!(error.to_string(), format!("{address} is silent: no connection for 200ms"));
        let mut comm = Comm::connect(&address, None, PATIENCE).await.unwrap();
        let error = comm.call(call::ping(), SOON).await.unwrap_err();
        assert_eq!(error.to_string(), format!("{address} is silent: no data received for 200ms"));
        // More than fits in the buffers between the sockets.
        let big = || Outgoing::new([vec![0xc0; 100 << 20].into()]);
        let error = comm.send_within(big(), SOON).await.unwrap_err();
        assert_eq!(error.to_string(), format!("{address} is silent: no data accepted for 200ms"));
        let error = comm.send(call::ping()).await.unwrap_err();
        assert!(matches!(error, NetError::Closed { .. }), "{error}");
    });
    drop(held);
}

#[test]
fn a_slow_peer_does_not_time_out() {
    // Far more than the time between two bytes, and less than all of them take.
    const LIMIT: Duration = Duration::from_secs(1);
    let (report, longest_gaps) = mpsc::channel();
    let address = rogue(move |_, mut stream| {
        greet(&mut stream);
        let message = read_message(&mut stream).unwrap();
        stream.write_all(&(message.len() as u64).to_le_bytes()).unwrap();
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        for byte in message {
            thread::sleep(Duration::from_millis(40));
            let written = stream.write_all(&[byte]);
            longest = longest.max(last.elapsed());
            last = Instant::now();
            if written.is_err() {
                break;
            }
        }
        let _ = report.send(longest);
    });
    run(async {
        for _ in 0..10 {
            let mut comm = Comm::connect(&address, None, PATIENCE).await.unwrap();
            let start = Instant::now();
            let Err(error) = comm.call(call::ping(), LIMIT).await else {
                assert!(start.elapsed() > LIMIT);
                return;
            };
            drop(comm);
            // On a machine whose cores are busy, the peer's thread may stop for longer than the limit: once more then.
            let gap = longest_gaps.recv().unwrap();
            assert!(gap > LIMIT / 2, "{error}, and no byte came later than {gap:?} after another");
        }
        panic!("the peer's thread stops for long, again and again");
    });
}

#[test]
fn a_cancelled_receive_is_continued_by_the_next() {
    let address = rogue(|_, mut stream| {
        greet(&mut stream);
        for byte in call::ok().to_vec() {
            thread::sleep(Duration::from_millis(5));
            stream.write_all(&[byte]).unwrap();
        }
    });
    run(async {
        let mut comm = Comm::connect(&address, None, PATIENCE).await.unwrap();
        let frames = loop {
            let moment = async {
                Timer::after(Duration::from_millis(7)).await;
                None
            };
            if let Some(frames) = or(async { comm.receive().await.unwrap() }, moment).await {
                break frames;
            }
        };
        let answer = unpack::message(&frames).unwrap();
        assert_eq!(answer.as_map().unwrap().text("status"), Some("OK"));
    });
}

#[test]
fn refusals_name_the_address() {
    run(async {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address: Address = format!("tcp://127.0.0.1:{port}").parse().unwrap();
        let error = Comm::connect(&address, None, PATIENCE).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("can't connect to {address}: ")), "{error}");
        let nowhere: Address = "tcp://no-such-host.invalid:1".parse().unwrap();
        let error = Comm::connect(&nowhere, None, PATIENCE).await.unwrap_err().to_string();
        assert!(error.starts_with("can't connect to tcp://no-such-host.invalid:1: "), "{error}");
        let first = Listener::bind("127.0.0.1", 0, None).await.unwrap();
        let error = Listener::bind("127.0.0.1", first.address().port, None).await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("can't listen at {}: ", first.address())));
    });
}

/// Counts connections.
fn counting(
    count: &Arc<AtomicUsize>,
    each: impl Fn(usize, &mut Comm) -> bool + Send + Sync + 'static,
) -> impl Fn(Comm) -> futures_lite::future::Boxed<()> + Send + Sync + 'static {
    let (count, each) = (count.clone(), Arc::new(each));
    move |mut comm| {
        let (at, each) = (count.fetch_add(1, Ordering::SeqCst), each.clone());
        Box::pin(async move {
            while let Ok(Some(_)) = comm.receive().await {
                if !each(at, &mut comm) || comm.send(call::ok()).await.is_err() {
                    break;
                }
            }
        })
    }
}

#[test]
fn connections_are_reused() {
    let count = Arc::default();
    run(beside(None, counting(&count, |_, _| true), async |address| {
        let (pool, address) = (Pool::new(None, PATIENCE), address.to_string());
        for _ in 0..5 {
            pool.call(&address, call::ping(), PATIENCE).await.unwrap();
        }
        assert_eq!(count.load(Ordering::SeqCst), 1);
        let mut first = pool.lease(&address).await.unwrap();
        let mut second = pool.lease(&address).await.unwrap();
        first.call(call::ping(), PATIENCE).await.unwrap();
        second.call(call::ping(), PATIENCE).await.unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 2);
        first.done();
        // Not returned, so closed.
        drop(second);
        pool.call(&address, call::ping(), PATIENCE).await.unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 2);
        pool.sweep();
        pool.call(&address, call::ping(), PATIENCE).await.unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 2);
        pool.close();
        pool.call(&address, call::ping(), PATIENCE).await.unwrap();
        pool.call(&address, call::ping(), PATIENCE).await.unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 4);
    }));
}

#[test]
fn many_calls_at_once_leave_few_connections() {
    let count = Arc::default();
    run(beside(None, counting(&count, |_, _| true), async |address| {
        let (pool, address) = (Pool::new(None, PATIENCE), address.to_string());
        let calls: async_executor::Executor<'_> = async_executor::Executor::new();
        let tasks: Vec<_> = (0..40)
            .map(|_| calls.spawn(async { pool.call(&address, call::ping(), PATIENCE).await }))
            .collect();
        calls
            .run(async {
                for task in tasks {
                    task.await.unwrap();
                }
            })
            .await;
        assert!(count.load(Ordering::SeqCst) <= 40);
        let mut leases = Vec::new();
        let before = count.load(Ordering::SeqCst);
        for _ in 0..8 {
            leases.push(pool.lease(&address).await.unwrap());
        }
        assert_eq!(count.load(Ordering::SeqCst), before);
        let mut fresh = pool.lease(&address).await.unwrap();
        fresh.call(call::ping(), PATIENCE).await.unwrap();
        assert_eq!(count.load(Ordering::SeqCst), before + 1);
    }));
}

#[test]
fn a_stale_connection_is_replaced() {
    // The first connection is closed at its second call, which can't be known in advance.
    let count = Arc::default();
    let calls = AtomicUsize::new(0);
    let each = move |at, _: &mut Comm| at > 0 || calls.fetch_add(1, Ordering::SeqCst) == 0;
    run(beside(None, counting(&count, each), async |address| {
        let (pool, address) = (Pool::new(None, PATIENCE), address.to_string());
        pool.call(&address, call::ping(), PATIENCE).await.unwrap();
        pool.call(&address, call::ping(), PATIENCE).await.unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }));
    // Closed immediately after the answer.
    let address = rogue(|_, mut stream| {
        greet(&mut stream);
        read_message(&mut stream).unwrap();
        stream.write_all(&call::ok().to_vec()).unwrap();
    });
    run(async {
        let (pool, address) = (Pool::new(None, PATIENCE), address.to_string());
        for _ in 0..3 {
            pool.call(&address, call::ping(), PATIENCE).await.unwrap();
            Timer::after(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn a_fresh_connection_that_fails_is_an_error() {
    let count = Arc::default();
    run(beside(None, counting(&count, |_, _| false), async |address| {
        let pool = Pool::new(None, PATIENCE);
        let error = pool.call(&address.to_string(), call::ping(), PATIENCE).await.unwrap_err();
        assert!(matches!(error, NetError::Closed { .. }), "{error}");
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }));
}

struct Certificates {
    folder: tempfile::TempDir,
    authority: (Certificate, KeyPair),
}

impl Certificates {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = (params.self_signed(&key).unwrap(), key);
        let certificates = Self { folder: tempfile::tempdir().unwrap(), authority };
        certificates.write("ca", &certificates.authority.0.pem());
        certificates
    }

    fn write(&self, name: &str, pem: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    }

    fn tls(&self, name: &str) -> Tls {
        self.tls_but_for(name, &self.folder.path().join("ca"))
    }

    /// Returns a certificate of this authority that trusts another one.
    fn tls_but_for(&self, name: &str, trusted: &Path) -> Tls {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([format!("{name}.example")]).unwrap();
        let signed = params.signed_by(&key, &self.authority.0, &self.authority.1).unwrap();
        let certificate = self.write(name, &signed.pem());
        let key = self.write(&format!("{name}-key"), &key.serialize_pem());
        Tls::new(trusted, certificate, key).unwrap()
    }
}

#[test]
fn certificates_of_one_authority_are_accepted() {
    let certificates = Certificates::new();
    let (one, two) = (certificates.tls("one"), certificates.tls("two"));
    run(beside(Some(&one), echo, async |address| {
        assert!(address.to_string().starts_with("tls://127.0.0.1:"));
        let mut comm = Comm::connect(&address, Some(&two), PATIENCE).await.unwrap();
        let frames = vec![Bytes::from_static(b"\xc0"), vec![7; 3 << 20].into()];
        comm.send(Outgoing::new(frames.clone())).await.unwrap();
        assert_eq!(comm.receive().await.unwrap(), Some(frames));
        let pool = Pool::new(Some(two), PATIENCE);
        for _ in 0..3 {
            pool.call(&address.to_string(), call::ping(), PATIENCE).await.unwrap();
        }
    }));
}

#[test]
fn a_certificate_may_be_its_own_authority() {
    // As Dask's `Security.temporary()` creates it.
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(["dask-internal".to_owned()]).unwrap().self_signed(&key);
    let (certificate, secret) = (folder.path().join("own"), folder.path().join("key"));
    std::fs::write(&certificate, own.unwrap().pem()).unwrap();
    std::fs::write(&secret, key.serialize_pem()).unwrap();
    let tls = Tls::new(&certificate, &certificate, &secret).unwrap();
    run(beside(Some(&tls), echo, async |address| {
        let mut comm = Comm::connect(&address, Some(&tls), PATIENCE).await.unwrap();
        comm.call(call::ping(), PATIENCE).await.unwrap();
    }));
}

#[test]
fn certificates_of_another_authority_are_rejected() {
    let (ours, others) = (Certificates::new(), Certificates::new());
    let server = ours.tls("server");
    let outsider = others.tls("outsider");
    let spy = others.tls_but_for("spy", &ours.folder.path().join("ca"));
    run(beside(Some(&server), echo, async |address| {
        // The client doesn't trust the server,
        let error = Comm::connect(&address, Some(&outsider), PATIENCE).await.unwrap_err();
        assert!(error.to_string().contains("isn't signed by the given authority"), "{error}");
        // or the server doesn't trust the client.
        let error = Comm::connect(&address, Some(&spy), PATIENCE).await.unwrap_err();
        assert!(error.to_string().contains("rejected our certificate"), "{error}");
    }));
}

#[test]
fn tls_on_only_one_side_is_an_error_at_once() {
    let certificates = Certificates::new();
    let tls = certificates.tls("one");
    run(beside(Some(&tls), echo, async |address| {
        let error = Comm::connect(&address, None, PATIENCE).await.unwrap_err().to_string();
        assert!(error.contains("it needs certificates, and none were given"), "{error}");
        let open = Address { tls: false, ..address };
        let error = Comm::connect(&open, Some(&tls), PATIENCE).await.unwrap_err().to_string();
        assert!(error.contains("write `tls://`"), "{error}");
        let error = Comm::connect(&open, None, PATIENCE).await.unwrap_err();
        assert!(matches!(error, NetError::Handshake { .. }), "{error}");
    }));
    run(beside(None, echo, async |address| {
        let closed = Address { tls: true, ..address };
        let error = Comm::connect(&closed, Some(&tls), PATIENCE).await.unwrap_err();
        assert!(matches!(error, NetError::Tls { .. }), "{error}");
    }));
}

#[test]
fn errors_name_files_without_certificates() {
    let certificates = Certificates::new();
    certificates.tls("one");
    let path = |name: &str| certificates.folder.path().join(name);
    let error = |ca: &str, certificate: &str, key: &str| {
        Tls::new(path(ca), path(certificate), path(key)).unwrap_err().to_string()
    };
    assert!(error("none", "one", "one-key").contains("none` can't be used for TLS: "));
    assert!(error("one-key", "one", "one-key").contains("it contains no certificate"));
    assert!(error("ca", "one", "one").contains("it contains no private key"));
    certificates.tls("two");
    assert!(error("ca", "one", "two-key").contains("one` can't be used for TLS: "));
}

#[test]
fn connections_are_closed_with_their_listener() {
    run(async {
        let listener = Listener::bind("127.0.0.1", 0, None).await.unwrap();
        let address = listener.address().clone();
        let connect = async {
            let mut comm = Comm::connect(&address, None, PATIENCE).await.unwrap();
            comm.call(call::ping(), PATIENCE).await.unwrap();
            comm
        };
        let mut comm = or(connect, async { match listener.serve(echo).await {} }).await;
        assert_eq!(comm.receive_within(PATIENCE).await.unwrap(), None);
    });
}

#[test]
fn futures_are_dropped_with_their_thread() {
    struct Dropped(mpsc::Sender<thread::ThreadId>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.send(thread::current().id());
        }
    }
    let (sender, receiver) = mpsc::channel();
    let io = Io::start("ensue-dask").unwrap();
    let name = io.spawn(async { thread::current().name().map(str::to_owned) });
    assert_eq!(block_on(name).as_deref(), Some("ensue-dask"));
    let dropped = Dropped(sender.clone());
    io.spawn(async move {
        std::future::pending::<()>().await;
        drop(dropped);
    })
    .detach();
    // A panic doesn't affect other futures.
    io.spawn(async { panic!("as the test wants") }).detach();
    let (id, again) = block_on(io.clone().spawn(async { (thread::current().id(), 5) }));
    assert_eq!(again, 5);
    let begin = Instant::now();
    drop(io);
    // Dropping waits, but not for ever.
    match receiver.try_recv() {
        Ok(dropped_on) => assert_eq!(dropped_on, id),
        Err(_) => {
            assert!(begin.elapsed() >= io::DROP_TIMEOUT);
            assert_eq!(receiver.recv_timeout(PATIENCE), Ok(id));
        }
    }

    // By a future on the thread itself.
    let io = Io::start("ensue-dask").unwrap();
    let (dropped, own) = (Dropped(sender), io.clone());
    io.spawn(async move {
        Timer::after(Duration::from_millis(50)).await;
        drop(own);
        drop(dropped);
    })
    .detach();
    drop(io);
    receiver.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn calls_on_one_thread_are_concurrent() {
    // Twenty calls on twenty connections of one thread.
    run(beside(None, echo, async |address| {
        let io = Io::start("ensue-dask").unwrap();
        let pool = Pool::new(None, PATIENCE);
        let address = address.to_string();
        let calls: Vec<_> = (0..20)
            .map(|_| {
                let (pool, address) = (pool.clone(), address.clone());
                io.spawn(async move { pool.call(&address, call::ping(), PATIENCE).await })
            })
            .collect();
        for call in calls {
            assert!(matches!(call.await, Ok(Value::Map(_))));
        }
    }));
}
