//! Transfers of large results that are cut or stalled, and a disk that is full.

use std::net::SocketAddr;
use std::time::Duration;

use ensue::Handle;
use ensue_tests_cluster::disk::Disk;
use ensue_tests_cluster::proxy::{Proxy, Then};
use ensue_tests_cluster::{Cluster, Setting, eventually, free_port, wait};

use crate::functions::{blob, inc, length};
use crate::run::{Outcome, Skipped, Test};

pub(crate) const TESTS: &[Test] = &[
    ("a_transfer_is_cut_mid_message", a_transfer_is_cut_mid_message),
    ("results_are_spilled", results_are_spilled),
    ("the_disk_is_full_when_spilling", the_disk_is_full_when_spilling),
];

/// A worker and the client fetch it again.
fn a_transfer_is_cut_mid_message(setting: &Setting) -> Outcome {
    const LENGTH: u64 = 20_000_000;
    let cluster = Cluster::start(setting);
    let port = free_port();
    let cable =
        Proxy::start(&format!("127.0.0.2:{port}"), SocketAddr::from(([127, 0, 0, 1], port)));
    let listen = format!("127.0.0.1:{port}");
    let _source = cluster.worker_with("source", &["--listen", &listen, "--announce", "127.0.0.2"]);
    let client = cluster.client();
    let bytes = client.submit(blob, LENGTH);
    eventually("the first blob is finished", || bytes.is_finished());
    let _other = cluster.worker("other");

    cable.after(LENGTH / 2, Then::Cut);
    let sum = client.task().workers(["other"]).submit(length, &bytes);
    assert_eq!(wait(sum).expect("a sum"), LENGTH);
    assert!(cable.has_happened() && cable.carried() > LENGTH);

    let bytes = client.task().workers(["source"]).submit(blob, LENGTH + 1);
    eventually("the second blob is finished", || bytes.is_finished());
    cable.after(LENGTH / 2, Then::Cut);
    assert_eq!(wait(bytes).expect("bytes").len() as u64, LENGTH + 1);
    assert!(cable.has_happened());

    // A pause that is shorter than the timeout doesn't end the transfer.
    let bytes = client.task().workers(["source"]).submit(blob, LENGTH + 2);
    eventually("the third blob is finished", || bytes.is_finished());
    let before = cable.carried();
    cable.after(LENGTH / 2, Then::Stall);
    let sum = client.task().workers(["other"]).submit(length, &bytes);
    eventually("half of it has come", || cable.is_stalled());
    std::thread::sleep(Duration::from_secs(3));
    cable.resume();
    assert_eq!(wait(sum).expect("a sum"), LENGTH + 2);
    let carried = cable.carried() - before;
    assert!(carried < 3 * LENGTH / 2, "{carried} bytes: it has begun again");
    wait(client.close());
    Ok(())
}

const COUNT: u64 = 30;
const LENGTH: u64 = 10_000_000;

fn results_are_spilled(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let folder = cluster.folder().join("spilled");
    std::fs::create_dir(&folder).expect("a folder");
    let path = folder.to_str().expect("text");
    let mut worker =
        cluster.worker_with("worker", &["--memory-limit", "200MB", "--local-directory", path]);
    let client = cluster.client();
    let blobs: Vec<_> = (0..COUNT).map(|at| client.submit(blob, LENGTH + at)).collect();
    eventually("all are finished", || blobs.iter().all(Handle::is_finished));
    assert!(size_of_folder(&folder) > 100_000_000, "{} bytes", size_of_folder(&folder));
    let sums: Vec<_> = blobs.iter().map(|bytes| client.submit(length, bytes)).collect();
    for (at, sum) in (0..).zip(sums) {
        assert_eq!(wait(sum).expect("a sum"), LENGTH + at);
    }
    drop(blobs);
    eventually("the files are removed", || size_of_folder(&folder) == 0);
    wait(client.close());
    worker.signal("TERM");
    let status = worker.ended_within(Duration::from_secs(30));
    assert!(status.success(), "{}", worker.log());
    assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), 0, "files left");
    Ok(())
}

fn size_of_folder(folder: &std::path::Path) -> u64 {
    // Files may be removed meanwhile.
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(kind) if kind.is_dir() => size_of_folder(&entry.path()),
        Ok(kind) => kind.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// The results stay in memory. The worker starts no task while it's over its limit, and continues when some are released;
/// none is lost.
fn the_disk_is_full_when_spilling(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let disk = Disk::new(1 << 20, cluster.folder().join("disk")).map_err(Skipped)?;
    let path = disk.path().to_str().expect("text");
    let mut worker =
        cluster.worker_with("worker", &["--memory-limit", "200MB", "--local-directory", path]);
    let client = cluster.client();
    let mut blobs: Vec<_> = (0..COUNT).map(|at| client.submit(blob, LENGTH + at)).collect();
    eventually("it's paused", || {
        cluster.python("print(client.scheduler_info())").contains("paused")
    });
    let finished: Vec<u64> = (0..COUNT).filter(|at| blobs[*at as usize].is_finished()).collect();
    assert!(finished.len() < COUNT as usize, "all {COUNT} are finished despite the full disk");
    let last = client.submit(inc, 1);
    let one = finished[0];
    assert_eq!(wait(&blobs[one as usize]).expect("bytes").len() as u64, LENGTH + one);
    assert!(!last.is_finished());

    blobs.clear();
    assert_eq!(wait(last).expect("a running worker"), 2);
    let sum = client.submit(blob, LENGTH);
    assert_eq!(wait(client.submit(length, &sum)).expect("a sum"), LENGTH);
    assert!(worker.ended().is_none());
    let complaints = worker.log().matches("No space left").count();
    assert!(complaints <= 1, "said {complaints} times:\n{}", worker.log());
    wait(client.close());
    drop(worker);
    Ok(())
}
