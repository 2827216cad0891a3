//! `LocalCluster`, which leaves no process and no file behind, however it ends.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use ensue::Handle;
use ensue::dask::LocalCluster;
use ensue_tests_cluster::{Process, Setting, eventually, wait};

use crate::functions::{inc, registry, total};
use crate::run::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    ("a_local_cluster", a_local_cluster),
    ("a_local_cluster_is_dropped_by_a_panic", a_local_cluster_is_dropped_by_a_panic),
    ("a_local_cluster_is_cancelled_while_it_starts", a_local_cluster_is_cancelled_while_it_starts),
    ("a_local_cluster_whose_process_is_killed", a_local_cluster_whose_process_is_killed),
    ("a_local_cluster_without_dask", a_local_cluster_without_dask),
];

fn listens(address: &str) -> bool {
    TcpStream::connect(address.trim_start_matches("tcp://")).is_ok()
}

fn a_local_cluster(setting: &Setting) -> Outcome {
    let starting = LocalCluster::start(2, registry()).threads(2).python_workers(1);
    let cluster = wait(starting.environment(&setting.environment)).expect("a cluster");
    let client = wait(cluster.client()).expect("a client");
    let xs: Vec<_> = (0..100).map(|x| client.submit(inc, x)).collect();
    assert_eq!(wait(client.submit(total, &xs)).expect("a total"), (1..=100).sum::<u64>());
    let next: Handle<u64> =
        client.task().resource("python", 1.0).submit_python("operator.neg", (&xs[0],));
    assert!(wait(next).expect_err("-1 is no u64").to_string().contains("u64"));
    let has_bokeh = setting.environment.join("bin/bokeh").exists();
    assert_eq!(cluster.dashboard().is_some(), has_bokeh, "{:?}", cluster.dashboard());
    wait(client.close());
    let address = cluster.address().to_owned();
    assert!(listens(&address));
    drop(cluster);
    assert!(!listens(&address), "the scheduler still runs");
    Ok(())
}

fn a_local_cluster_is_dropped_by_a_panic(setting: &Setting) -> Outcome {
    let environment = setting.environment.clone();
    let (send, address) = std::sync::mpsc::channel();
    let panicked = std::thread::Builder::new().name("to panic".into()).spawn(move || {
        let cluster = wait(LocalCluster::start(1, registry()).environment(environment));
        let cluster = cluster.expect("a cluster");
        send.send(cluster.address().to_owned()).expect("a receiver");
        panic!("as it should");
    });
    assert!(panicked.expect("a thread").join().is_err());
    assert!(!listens(&address.recv().expect("an address")), "the scheduler still runs");
    Ok(())
}

/// The future is dropped while the scheduler starts, or while the workers start.
fn a_local_cluster_is_cancelled_while_it_starts(setting: &Setting) -> Outcome {
    for ms in [0, 100, 1000, 1500, 2000] {
        let starting = LocalCluster::start(1, registry()).python_workers(1);
        let starting = starting.environment(&setting.environment).into_future();
        let patience = ensue::sleep(Duration::from_millis(ms));
        wait(futures::future::select(starting, patience));
        let children = std::fs::read_to_string(format!("/proc/self/task/{}/children", thread_id()));
        assert_eq!(children.unwrap_or_default(), "", "after {ms} ms");
    }
    Ok(())
}

/// Returns the id of the calling thread: the system lists child processes for each thread.
fn thread_id() -> String {
    let path = std::fs::read_link("/proc/thread-self").expect("Linux");
    path.file_name().expect("a number").to_string_lossy().into_owned()
}

/// `SIGKILL` leaves it no time to clean up.
fn a_local_cluster_whose_process_is_killed(setting: &Setting) -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg("local-cluster").arg(&setting.environment).env("TMPDIR", folder.path());
    let mut process = Process::start(command, "local-cluster", folder.path());
    eventually("it prints its address", || process.log().contains('\n'));
    let address = process.log().trim().to_owned();
    assert!(listens(&address), "{address}");
    process.kill();
    eventually("the scheduler has exited", || !listens(&address));
    let is_ours = |entry: std::fs::DirEntry| {
        entry.file_name().to_string_lossy().starts_with("ensue-").then(|| entry.path())
    };
    let left = || std::fs::read_dir(folder.path()).expect("a folder").flatten().find_map(is_ours);
    eventually("nothing is left on disk", || left().is_none());
    Ok(())
}

/// The program of the process that is killed.
pub(crate) fn main(environment: &Path) -> ExitCode {
    let cluster = LocalCluster::start(1, registry()).python_workers(1).environment(environment);
    let cluster = wait(cluster).expect("a cluster");
    let mut output = std::io::stdout();
    writeln!(output, "{}", cluster.address()).expect("output");
    std::thread::sleep(Duration::from_secs(600));
    ExitCode::FAILURE
}

fn a_local_cluster_without_dask(_: &Setting) -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let starting = LocalCluster::start(1, registry()).environment(folder.path());
    let error = wait(starting).expect_err("no Dask");
    assert!(error.is_not_installed());
    assert!(error.to_string().contains("pip install"), "{error}");
    Ok(())
}
