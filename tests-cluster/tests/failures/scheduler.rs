//! Schedulers that exit, stop or can't be reached.

use std::time::{Duration, Instant};

use ensue::{Error, ErrorKind, Handle, as_completed, dask, gather_settled};
use ensue_tests_cluster::proxy::{Proxy, Then};
use ensue_tests_cluster::{Cluster, Setting, eventually, free_port, wait};
use futures::StreamExt;

use crate::functions::{self, inc, slowly};
use crate::run::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    ("the_scheduler_is_killed", the_scheduler_is_killed),
    ("the_scheduler_is_stopped", the_scheduler_is_stopped),
    ("the_client_is_cut_off_mid_message", the_client_is_cut_off_mid_message),
    ("a_worker_is_cut_off_mid_message", a_worker_is_cut_off_mid_message),
    ("an_unreachable_scheduler_is_an_error", an_unreachable_scheduler_is_an_error),
];

#[track_caller]
fn lost<T>(result: Result<T, Error>) {
    let error = result.err().expect("an error");
    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
}

/// All tasks are lost, whatever their state, and so are later ones. Nothing hangs; workers exit with an error.
fn the_scheduler_is_killed(setting: &Setting) -> Outcome {
    let mut cluster = Cluster::start(setting);
    let mut worker = cluster.worker("worker");
    let client = cluster.client();
    let done = client.submit(inc, 1);
    eventually("one is done", || done.is_finished());
    let taken = client.submit(inc, 2);
    assert_eq!(wait(&taken).expect("a result"), 3);
    let slow: Vec<_> = (0..5).map(|x| client.submit(slowly, (60_000, x))).collect();
    let next = client.submit(inc, &slow[0]);
    let mut arriving = as_completed(&slow[1..3]);
    let waiting: Handle<u64> = slow[3].clone();
    let waiter = std::thread::spawn(move || waiting.result());

    cluster.scheduler.kill();
    let start = Instant::now();
    for result in wait(gather_settled(&slow)) {
        lost(result);
    }
    lost(wait(next));
    lost(waiter.join().expect("no panic"));
    assert!(wait(arriving.next()).is_some() && wait(arriving.next()).is_some());
    assert!(wait(arriving.next()).is_none());
    lost(wait(client.submit(inc, 1)));
    // A worker that hasn't exited yet may still send its value.
    let _ = wait(done);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    wait(client.close());
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());

    let status = worker.ended_within(Duration::from_secs(30));
    let log = worker.log();
    assert!(
        !status.success() && log.contains("connection") && log.contains(&cluster.address),
        "{log}"
    );
    Ok(())
}

/// No connection is closed, and no message arrives: the client times out after about a minute. Workers wait longer, so the
/// cluster works again when the scheduler continues.
fn the_scheduler_is_stopped(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let mut worker = cluster.worker("worker");
    let client = cluster.client();
    let slow = client.submit(slowly, (600_000, 1));
    let never = client.submit(inc, &slow);
    // Dask never releases tasks that it receives while their client leaves.
    cluster.python("import time\nwhile not any(client.processing().values()): time.sleep(0.05)");
    cluster.scheduler.signal("STOP");
    lost(wait(slow));
    lost(wait(never));
    wait(client.close());
    cluster.scheduler.signal("CONT");
    let client = cluster.client();
    assert_eq!(wait(client.submit(inc, 1)).expect("a result"), 2);
    assert!(worker.ended().is_none(), "{}", worker.log());
    wait(client.close());
    Ok(())
}

fn port(address: &str) -> u16 {
    address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

fn cable_to(address: &str) -> Proxy {
    let server = address.trim_start_matches("tcp://").parse().expect("an address");
    Proxy::start("127.0.0.1:0", server)
}

/// Reports of many finished tasks arrive when the connection is cut, so the cut is in the middle of a message.
fn the_client_is_cut_off_mid_message(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let _worker = cluster.worker("worker");
    let cable = cable_to(&cluster.address);
    let address = format!("tcp://{}", cable.address);
    let connected = dask::Client::connect(&address, functions::registry());
    let client = wait(connected).expect("a client");
    cable.after(10_001, Then::Cut);
    let start = Instant::now();
    let xs: Vec<_> = (0..3000).map(|x| client.submit(inc, x)).collect();
    let mut count = 0;
    for (x, result) in wait(gather_settled(&xs)).into_iter().enumerate() {
        match result {
            Ok(y) => assert_eq!(y, x as u64 + 1),
            failed => {
                lost(failed);
                count += 1;
            }
        }
    }
    assert!(cable.has_happened() && count > 0, "{count} were lost");
    lost(wait(client.submit(inc, 1)));
    wait(client.close());
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());

    // The cluster still works.
    let client = cluster.client();
    assert_eq!(wait(client.submit(inc, 1)).expect("a result"), 2);
    wait(client.close());
    Ok(())
}

/// The worker exits with an error; another computes its tasks.
fn a_worker_is_cut_off_mid_message(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let cable = cable_to(&cluster.address);
    let address = format!("tcp://{}", cable.address);
    let mut worker = cluster.start_worker(&address, "worker", &[]);
    cluster.wait_for_workers(1);
    let client = cluster.client();
    cable.after(20_001, Then::Cut);
    let xs: Vec<_> = (0..500).map(|x| client.submit(inc, x)).collect();
    let status = worker.ended_within(Duration::from_secs(30));
    let log = worker.log();
    assert!(!status.success() && log.contains("was lost") && log.contains(&address), "{log}");
    let _other = cluster.worker("other");
    for (x, result) in wait(gather_settled(&xs)).into_iter().enumerate() {
        assert_eq!(result.expect("a result"), x as u64 + 1);
    }
    wait(client.close());
    Ok(())
}

/// Tested with a port without a listener, and with a listener that doesn't answer.
fn an_unreachable_scheduler_is_an_error(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let unused = format!("tcp://127.0.0.1:{}", free_port());
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("tcp://{}", silent.local_addr().expect("an address"));
    for address in [&unused, &silent] {
        let start = Instant::now();
        let mut worker = cluster.start_worker(address, "worker", &[]);
        let client = dask::Client::connect(address, functions::registry());
        let error = wait(client).expect_err("no scheduler").to_string();
        assert!(error.contains(&port(address).to_string()), "{error}");
        assert_eq!(worker.ended_within(Duration::from_secs(60)).code(), Some(1));
        assert!(worker.log().contains(&port(address).to_string()), "{}", worker.log());
        assert!(start.elapsed() < Duration::from_secs(90), "{:?}", start.elapsed());
    }
    Ok(())
}
