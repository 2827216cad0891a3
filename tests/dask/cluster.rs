//! A stock scheduler for a test.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ensue_dask_proto::call;
use ensue_dask_proto::value::Value;

use super::comm::{Comm, PATIENCE};

/// A scheduler of its own, which ends with this.
pub(crate) struct Cluster {
    pub(crate) address: String,
    environment: PathBuf,
    log: PathBuf,
    process: Process,
}

pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Cluster {
    pub(crate) fn start(environment: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = std::env::temp_dir().join(format!("ensue-dask-{port}.log"));
        let port = port.to_string();
        let arguments = ["scheduler", "--host", "127.0.0.1", "--port", &port, "--no-dashboard"];
        let process = run_dask(environment, &arguments, &log);
        let address = format!("tcp://127.0.0.1:{port}");
        let start = Instant::now();
        while TcpStream::connect(&address[6..]).is_err() {
            assert!(start.elapsed() < PATIENCE, "{}", fs::read_to_string(&log).unwrap());
            thread::sleep(Duration::from_millis(100));
        }
        Self { address, environment: environment.to_owned(), log, process }
    }

    /// Waits for it: the name of a worker that isn't there yet is taken for that of a host, which may be ours.
    pub(crate) fn stock_worker(&self, calls: &mut Comm) -> Process {
        let arguments = [
            "worker",
            &self.address,
            "--no-nanny",
            "--name",
            "python",
            "--nthreads",
            "1",
            "--no-dashboard",
        ];
        let process = run_dask(&self.environment, &arguments, &self.log.with_extension("worker"));
        let start = Instant::now();
        loop {
            let identity = call::map_reply(calls.call(call::identity())).unwrap();
            let workers = identity.get("workers").and_then(Value::as_map).unwrap();
            let mut names = workers.named().filter_map(|(_, worker)| worker.as_map()?.text("id"));
            if names.any(|name| name == "python") {
                return process;
            }
            assert!(start.elapsed() < PATIENCE, "no stock worker");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// What it wrote.
    pub(crate) fn stop(self) -> String {
        drop(self.process);
        let log = fs::read_to_string(&self.log).unwrap();
        let _ = fs::remove_file(&self.log);
        let _ = fs::remove_file(self.log.with_extension("worker"));
        log
    }
}

fn run_dask(environment: &Path, arguments: &[&str], log: &Path) -> Process {
    let file = fs::File::create(log).unwrap();
    let child = Command::new(environment.join("bin/dask"))
        .args(arguments)
        .current_dir(std::env::temp_dir())
        .env("DASK_DISTRIBUTED__SCHEDULER__VALIDATE", "True")
        .stdout(Stdio::null())
        .stderr(file)
        .spawn();
    Process(child.expect("`bin/dask` in the environment"))
}
