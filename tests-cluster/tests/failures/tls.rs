//! TLS with the right certificates, wrong ones, and none.

use std::process::Command;
use std::time::{Duration, Instant};

use ensue::dask;
use ensue_tests_cluster::certificates::Certificates;
use ensue_tests_cluster::{Cluster, Options, Setting, wait};

use crate::functions::{self, inc, total};
use crate::run::{Outcome, Skipped, Test};

pub(crate) const TESTS: &[Test] =
    &[("tls", tls), ("tls_with_certificates_made_as_documented", as_documented)];

const OURS: [&str; 3] = ["--tls-ca", "--tls-cert", "--tls-key"];

fn tls(setting: &Setting) -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let right = Certificates::new(folder.path(), "right");
    let wrong = Certificates::new(folder.path(), "wrong");
    // It trusts the scheduler, but the scheduler doesn't trust it.
    let half = Certificates {
        ca: right.ca.clone(),
        certificate: wrong.certificate.clone(),
        key: wrong.key.clone(),
    };
    let options = Options { certificates: Some(&right), ..Default::default() };
    let cluster = Cluster::start_with(setting, &options);
    assert!(cluster.address.starts_with("tls://"), "{}", cluster.address);

    let good = right.options(OURS);
    let good: Vec<&str> = good.iter().map(String::as_str).collect();
    let _a = cluster.worker_with("a", &good);
    let _b = cluster.worker_with("b", &good);
    let client = cluster.client();
    let works = || {
        let xs: Vec<_> = (0..50).map(|x| client.submit(inc, x)).collect();
        assert_eq!(wait(client.submit(total, xs)).expect("a total"), (1..=50).sum::<u64>());
    };
    works();
    for bad in [&wrong, &half] {
        let start = Instant::now();
        let refused = dask::Client::connect(&cluster.address, functions::registry()).tls(bad.tls());
        let error = wait(refused).expect_err("a refusal").to_string();
        assert!(error.to_lowercase().contains("certificate"), "{error}");
        let options = bad.options(OURS);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let mut worker = cluster.start_worker(&cluster.address, "bad", &options);
        assert_eq!(worker.ended_within(Duration::from_secs(60)).code(), Some(1));
        assert!(worker.log().to_lowercase().contains("certificate"), "{}", worker.log());
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    }
    // Without certificates, and without TLS to the same port.
    let plain = cluster.address.replace("tls://", "tcp://");
    for address in [&cluster.address, &plain] {
        let refused = dask::Client::connect(address, functions::registry());
        wait(refused).expect_err("a refusal");
        let mut worker = cluster.start_worker(address, "bad", &[]);
        assert_eq!(worker.ended_within(Duration::from_secs(60)).code(), Some(1));
    }
    works();
    wait(client.close());
    Ok(())
}

/// The commands in the documentation.
fn as_documented(setting: &Setting) -> Outcome {
    let page = include_str!("../../../docs/dask.md");
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let commands: Vec<_> = blocks.filter(|block| block.contains("openssl")).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let shell = Command::new("sh").arg("-ec").args(&commands).current_dir(folder.path()).output();
    let shell = shell.expect("a shell");
    let errors = String::from_utf8_lossy(&shell.stderr);
    if errors.contains("not found") {
        return Err(Skipped("openssl isn't installed".into()));
    }
    assert!(shell.status.success() && commands.len() == 1, "{errors}");
    let file = |name| folder.path().join(name);
    let made = Certificates {
        ca: file("ca.pem"),
        certificate: file("certificate.pem"),
        key: file("key.pem"),
    };
    let options = Options { certificates: Some(&made), ..Default::default() };
    let cluster = Cluster::start_with(setting, &options);
    let options = made.options(OURS);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let _worker = cluster.worker_with("worker", &options);
    let client = cluster.client();
    assert_eq!(wait(client.submit(inc, 1)).expect("a result"), 2);
    wait(client.close());
    Ok(())
}
