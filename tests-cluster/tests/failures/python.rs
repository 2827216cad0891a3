//! Stock clients and workers beside those of the crate.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use ensue::Handle;
use ensue_tests_cluster::{Cluster, Options, Setting, eventually, free_port, wait};

use crate::functions::{add, inc, total};
use crate::run::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    ("a_graph_of_both_languages", a_graph_of_both_languages),
    ("a_python_client_calls_rust", a_python_client_calls_rust),
    ("a_python_client_sees_ordinary_workers", a_python_client_sees_ordinary_workers),
    ("the_pages_of_dask_show_our_workers", the_pages_of_dask_show_our_workers),
];

/// Workers of each kind fetch results from the other kind.
fn a_graph_of_both_languages(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let (_a, _b) = (cluster.worker("a"), cluster.worker("b"));
    let _python = cluster.python_worker("python");
    let client = cluster.client();
    let xs: Vec<_> = (0..20).map(|x| client.submit(inc, x)).collect();
    let ys: Vec<Handle<u64>> = xs
        .iter()
        .map(|x| client.task().resource("python", 1.0).submit_python("operator.mul", (x, 10)))
        .collect();
    let zs: Vec<_> = xs.iter().zip(&ys).map(|(x, y)| client.submit(add, (x, y))).collect();
    let rust = client.submit(total, &zs);
    let python: Handle<u64> =
        client.task().resource("python", 1.0).submit_python("builtins.sum", (zs,));
    let expected = (1..=20).map(|x| 11 * x).sum::<u64>();
    assert_eq!(wait(rust).expect("a total"), expected);
    assert_eq!(wait(python).expect("a total"), expected);
    let broken: Handle<u64> =
        client.task().resource("python", 1.0).submit_python("operator.floordiv", (&xs[0], 0));
    let error = wait(broken).expect_err("one can't divide by 0").to_string();
    assert!(error.contains("ZeroDivisionError"), "{error}");
    wait(client.close());
    Ok(())
}

const PAGE: &str = include_str!("../../../docs/dask.md");

/// Returns the program in the documentation, and its part before it connects.
fn documented() -> (&'static str, &'static str) {
    let mut programs = PAGE.split("```python\n").skip(1);
    let program = programs.next().and_then(|rest| rest.split("```").next()).expect("a program");
    assert!(programs.next().is_none(), "more than one program");
    (program, program.split("client = Client(").next().expect("it connects"))
}

fn a_python_client_calls_rust(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let (_a, _b) = (cluster.worker("a"), cluster.worker("b"));
    let (program, _) = documented();
    let output = cluster.run_python(&program.replace("tcp://127.0.0.1:8786", &cluster.address));
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines, ["2", "12", "1 can't be divided by 0"], "{output}");
    Ok(())
}

/// The crate's workers answer every request of a stock client.
fn a_python_client_sees_ordinary_workers(setting: &Setting) -> Outcome {
    let cluster = Cluster::start(setting);
    let mut first = cluster.worker_with("first", &["--resource", "gpu=2", "--memory-limit", "1GB"]);
    let _second = cluster.worker("second");
    let client = cluster.client();
    let xs: Vec<_> = (0..10).map(|x| client.submit(inc, x)).collect();
    eventually("all are finished", || xs.iter().all(Handle::is_finished));
    let (_, calls) = documented();
    let output = cluster.python(&format!(
        "
import time
from distributed import wait
{calls}
futures = [submit_rust(client, 'inc', x) for x in range(10)]
wait(futures)
keys = [future.key for future in futures]
# Metrics come with heartbeats.
time.sleep(1.5)
workers = client.scheduler_info(n_workers=-1)['workers'] if 'n_workers' in \
client.scheduler_info.__code__.co_varnames else client.scheduler_info()['workers']
first, = [worker for worker in workers.values() if worker['id'] == 'first']
assert first['nthreads'] == 1 and first['resources'] == {{'gpu': 2.0, 'rust': 1.0}}, first
assert first['memory_limit'] == 10**9 and first['status'] == 'running', first
metrics = first['metrics']
assert metrics['memory'] > 10**6 and 0 <= metrics['cpu'] < 1000 and metrics['num_fds'] > 3, metrics
assert 'incoming_bytes' in metrics['transfer'] and 'read_bps' in metrics['host_net_io'], metrics
assert set(client.ncores()) == set(workers) and set(client.nthreads().values()) == {{1}}
assert sum(len(held) for held in client.has_what().values()) == 2 * len(keys), client.has_what()
assert set(client.processing()) == set(workers)
assert client.gather(futures) == list(range(1, 11))
assert client.gather(futures, direct=True) == list(range(1, 11))
assert client.who_has(futures).keys() == set(keys)
assert all(nbytes > 0 for nbytes in client.nbytes(summary=False).values())
client.get_versions(check=False)
client.call_stack()
client.profile()
async def times(dask_scheduler):
    await dask_scheduler.get_profile_metadata()
client.run_on_scheduler(times)
assert set(client.get_worker_logs()) == set(workers)
client.benchmark_hardware()
client.story(keys[0])
here, = client.scatter([{{'a': 1}}], workers=[list(workers)[0]])
assert here.result() == {{'a': 1}}
client.replicate([here], n=2)
assert len(client.who_has([here])[here.key]) == 2
client.rebalance()
bytes_there = client.scatter(b'x' * 1000)
assert bytes_there.result() == b'x' * 1000
try:
    client.run(lambda: 1)
except Exception as error:
    print('run:', error)
else:
    print('run: did')
client.retire_workers(names=['first'])
assert client.gather(futures) == list(range(1, 11))
assert here.result() == {{'a': 1}}
print('done')
"
    ));
    assert!(output.contains("run: ") && !output.contains("run: did"), "{output}");
    assert!(output.trim_end().ends_with("done"), "{output}");
    let status = first.ended_within(Duration::from_secs(30));
    assert!(status.success(), "{}", first.log());
    for (x, y) in (0..).zip(xs) {
        assert_eq!(wait(y).expect("a result"), x + 1);
    }
    wait(client.close());
    Ok(())
}

/// The interactive pages need bokeh; the metrics and the plain pages don't.
fn the_pages_of_dask_show_our_workers(setting: &Setting) -> Outcome {
    let port = free_port();
    let options = Options { pages: Some(port), ..Options::default() };
    let cluster = Cluster::start_with(setting, &options);
    let (_a, _b) = (cluster.worker("a"), cluster.worker("b"));
    let client = cluster.client();
    let xs: Vec<_> = (0..10).map(|x| client.submit(inc, x)).collect();
    let _sum = wait(client.submit(total, &xs)).expect("a total");
    std::thread::sleep(Duration::from_millis(1500));
    let get = |path: &str| get(port, path);
    let metrics = get("/metrics");
    // The reply without `prometheus_client`.
    let missing = metrics.contains("Prometheus metrics are not available");
    assert!(missing || metrics.contains("dask_scheduler_workers{"), "{metrics}");
    let workers = get("/info/main/workers.html");
    assert!(workers.contains("a") && workers.contains("tcp://"), "{workers}");
    for worker in workers.split("/info/worker/").skip(1) {
        let page = worker.split('"').next().unwrap_or_default().trim_start_matches("../");
        get(&format!("/info/worker/{page}"));
    }
    if setting.environment.join("bin/bokeh").exists() {
        for page in
            ["status", "workers", "tasks", "system", "profile", "graph", "individual-task-stream"]
        {
            get(&format!("/{page}"));
        }
    }
    wait(client.close());
    Ok(())
}

#[track_caller]
fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a server");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.lines().next().unwrap_or_default().contains(" 200"), "{path}: {answer}");
    answer
}
