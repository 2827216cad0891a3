//! Tests of the dashboard's server over TCP.
#![cfg(feature = "dashboard")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ensue::dashboard::Dashboard;
use ensue::{Client, Handle, Status};
use futures::executor::block_on;
use serde_json::Value;
use support::hold::Gate;
use support::http::{LONG, Reader, ask, connect, get, raw};

fn client() -> Client {
    Client::builder().workers(2).name("test").limit("db", 1).build()
}

fn dashboard(client: &Client) -> Dashboard {
    client.dashboard().bind("127.0.0.1:0").expect("a dashboard")
}

fn token(dashboard: &Dashboard) -> String {
    dashboard.link().split_once("#token=").expect("a token").1.to_owned()
}

/// Returns the number of a task in the record.
fn number<T>(address: SocketAddr, handle: &Handle<T>) -> u64 {
    let started = Instant::now();
    loop {
        let tasks = get(address, "/api/tasks").json();
        let tasks = tasks["tasks"].as_array().expect("tasks").clone();
        if let Some(task) =
            tasks.iter().find(|task| *handle.key() == *task["key"].as_str().unwrap())
        {
            return task["id"].as_u64().expect("a number");
        }
        assert!(started.elapsed() < LONG, "{tasks:?}");
    }
}

#[test]
fn every_page_is_served_with_security_headers() {
    let client = client();
    let dashboard = dashboard(&client);
    let address = dashboard.address();
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/graph", "text/html; charset=utf-8"),
        ("/tasks?name=inc", "text/html; charset=utf-8"),
        ("/workers", "text/html; charset=utf-8"),
        ("/events", "text/html; charset=utf-8"),
        ("/main.js", "text/javascript; charset=utf-8"),
        ("/base.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/health", "text/plain; charset=utf-8"),
        ("/graph.dot", "text/vnd.graphviz; charset=utf-8"),
        ("/graph.svg", "image/svg+xml"),
        ("/report.html", "text/html; charset=utf-8"),
        ("/api/tasks", "application/json"),
    ] {
        let answer = get(address, path);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), Some(kind), "{path}");
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(
            policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        let head = ask(address, "HEAD", path, &[]);
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
    }
    assert_eq!(ask(address, "HEAD", "/stream", &[]).status, 200);
    for path in
        ["/nothing", "/../Cargo.toml", "/api/task/x", "/api/task/999", "/assets/main.js", "//"]
    {
        assert_eq!(get(address, path).status, 404, "{path}");
    }
    assert_eq!(get(address, "/api/tasks?state=odd").status, 400);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        assert_eq!(ask(address, method, "/graph", &[]).status, 405, "{method}");
    }
}

#[test]
fn foreign_hosts_and_origins_are_refused() {
    let client = client();
    let dashboard = client.dashboard().allow_host("dash.example").bind("127.0.0.1:0").unwrap();
    let address = dashboard.address();
    let own = format!("http://{address}");
    let with = |name, value: &str| ask(address, "GET", "/health", &[(name, value)]).status;
    assert_eq!(with("Host", "evil.example"), 403);
    assert_eq!(with("Host", &format!("evil.example:{}", address.port())), 403);
    assert_eq!(with("Host", "dash.example"), 200);
    assert_eq!(with("Host", "localhost"), 200);
    assert_eq!(with("Origin", &own), 200);
    assert_eq!(with("Origin", "http://evil.example"), 403);
    assert_eq!(with("Origin", "http://127.0.0.1:1"), 403);
    assert_eq!(with("Origin", "null"), 403);
    assert_eq!(with("Sec-Fetch-Site", "cross-site"), 403);
    assert_eq!(with("Sec-Fetch-Site", "same-origin"), 200);
    let stream = ask(address, "GET", "/stream", &[("Origin", "http://evil.example")]);
    assert_eq!(stream.status, 403);
    assert_eq!(stream.header("access-control-allow-origin"), None);
    // A request target in absolute form also names a host.
    let foreign = format!(
        "GET http://evil.example/health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(raw(address, foreign.as_bytes()).status, 403);
    let without = b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n";
    assert_eq!(raw(address, without).status, 400);
}

#[test]
fn actions_need_the_token_from_the_link() {
    let client = client();
    let dashboard = dashboard(&client);
    let (address, token) = (dashboard.address(), token(&dashboard));
    let gate = Gate::new();
    let waiting = client.submit(
        {
            let gate = gate.clone();
            async move || gate.pass().await
        },
        (),
    );
    let path = format!("/api/task/{}/cancel", number(address, &waiting));
    let post = |headers: &[(&str, &str)]| ask(address, "POST", &path, headers).status;
    assert_eq!(post(&[]), 403);
    assert_eq!(post(&[("X-Ensue-Token", "")]), 403);
    assert_eq!(post(&[("X-Ensue-Token", &token[1..])]), 403);
    assert_eq!(post(&[("X-Ensue-Token", &token.to_uppercase())]), 403);
    assert_eq!(post(&[("X-Ensue-Token", &token), ("Origin", "http://evil.example")]), 403);
    let get = ask(address, "GET", &path, &[("X-Ensue-Token", &token)]);
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    assert_ne!(waiting.status(), Status::Cancelled);

    assert_eq!(post(&[("X-Ensue-Token", &token)]), 200);
    assert!(waiting.result().unwrap_err().is_cancelled());
    assert_eq!(
        ask(address, "POST", "/api/task/999999/cancel", &[("X-Ensue-Token", &token)]).status,
        404
    );
    // Only the link of the dashboard contains the token.
    assert!(!format!("{dashboard:?}").contains(&token));
    for path in ["/", "/main.js", "/metrics", "/report.html", "/api/tasks"] {
        assert!(!self::get(address, path).body.contains(&token), "{path}");
    }
}

#[test]
fn a_failed_task_is_retried() {
    let client = client();
    let dashboard = dashboard(&client);
    let (address, token) = (dashboard.address(), token(&dashboard));
    let tries = Arc::new(AtomicUsize::new(0));
    let flaky = async |tries: Arc<AtomicUsize>| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => Err("not yet"),
        before => Ok(before),
    };
    let handle = client.try_submit(flaky, tries);
    let _ = block_on(ensue::wait_all([&handle]));
    let path = format!("/api/task/{}/retry", number(address, &handle));
    assert_eq!(ask(address, "POST", &path, &[("X-Ensue-Token", &token)]).status, 200);
    let started = Instant::now();
    while handle.status() != Status::Finished {
        assert!(started.elapsed() < LONG, "{handle:?}");
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(ask(address, "POST", &path, &[("X-Ensue-Token", &token)]).status, 409);
}

#[test]
fn malformed_requests_are_refused() {
    let client = client();
    let dashboard = dashboard(&client);
    let address = dashboard.address();
    let line = |text: &str| raw(address, text.as_bytes()).status;
    assert_eq!(line("nonsense\r\n\r\n"), 400);
    assert_eq!(line("GET / HTTP/9.9\r\n\r\n"), 400);
    assert_eq!(line("\0\0\0\0\r\n\r\n"), 400);
    assert_eq!(line(&format!("GET / HTTP/1.1\r\nHost: {address}\r\nbad header\r\n\r\n")), 400);
    let long = format!("GET /{} HTTP/1.1\r\nHost: {address}\r\n\r\n", "x".repeat(1 << 20));
    assert!(matches!(line(&long), 0 | 414 | 431), "{}", line(&long));
    let large = format!("GET / HTTP/1.1\r\nHost: {address}\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    assert!(matches!(line(&large), 0 | 431), "{}", line(&large));
    let many = "X: 1\r\n".repeat(100);
    assert_eq!(line(&format!("GET / HTTP/1.1\r\nHost: {address}\r\n{many}\r\n")), 431);
    let sizes = format!(
        "POST / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n"
    );
    assert_eq!(line(&sizes), 413);
    let smuggled = format!(
        "POST / HTTP/1.1\r\nHost: {address}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"
    );
    assert_eq!(line(&smuggled), 400);
    assert_eq!(get(address, "/health").status, 200);
}

#[test]
fn a_client_that_never_finishes_a_request_is_disconnected() {
    let client = client();
    let dashboard = dashboard(&client);
    let started = Instant::now();
    let mut slow = connect(dashboard.address());
    slow.write_all(b"GET / HTTP/1.1\r\nHost: loc").unwrap();
    let mut idle = connect(dashboard.address());
    let mut rest = Vec::new();
    for stream in [&mut slow, &mut idle] {
        let ended = stream.read_to_end(&mut rest);
        assert!(
            !matches!(&ended, Err(error) if error.kind() == ErrorKind::WouldBlock),
            "{ended:?}"
        );
    }
    assert!(started.elapsed() > Duration::from_secs(5) && started.elapsed() < LONG);
}

#[test]
fn the_stream_sends_the_record_and_then_changes() {
    let client = client();
    let dashboard = dashboard(&client);
    let x = client.task().name("inc").submit(async |x: u64| x + 1, 1);
    let y = client.task().key("<b>y</b>").submit(async |x: u64| x * 2, &x);
    assert_eq!(block_on(async { (&y).await }).unwrap(), 4);
    let mut reader = Reader::open(dashboard.address());
    let hello = reader.next("hello");
    assert_eq!(hello["client"], "test");
    let update = reader.until_finished(2);
    assert_eq!(update["all"], true);
    assert_eq!(update["tasks"].as_array().unwrap().len(), 2);
    assert_eq!(update["edges"].as_array().unwrap().len(), 1);
    assert_eq!(update["keys"][0][1], "<b>y</b>");
    assert_eq!(update["bars"].as_array().unwrap().len(), 2);
    assert_eq!(update["stats"]["limits"][0]["name"], "db");

    let failed = client.try_submit(async || Err::<(), _>("<i>no</i>"), ());
    failed.result().unwrap_err();
    let started = Instant::now();
    let failure = loop {
        let update = reader.next("update");
        assert_ne!(update["all"], true);
        if let Some(failure) = update["failures"].get(0) {
            assert_eq!(update["tasks"].as_array().unwrap().len(), 1);
            break failure.clone();
        }
        assert!(started.elapsed() < LONG);
    };
    assert!(failure[2].as_str().unwrap().ends_with("failed: <i>no</i>"), "{failure}");
}

#[test]
fn there_are_at_most_ten_updates_per_second() {
    let client = client();
    let dashboard = dashboard(&client);
    let mut reader = Reader::open(dashboard.address());
    reader.next("update");
    let started = Instant::now();
    for round in 0..20 {
        client.submit(async |x: u64| x, round).result().unwrap();
        reader.next("update");
    }
    assert!(started.elapsed() >= Duration::from_millis(1800), "{:?}", started.elapsed());
}

#[test]
fn a_slow_reader_delays_no_other_and_is_disconnected() {
    let client = client();
    let dashboard = dashboard(&client);
    let mut slow = Reader::open(dashboard.address());
    slow.next("hello");
    // Another reader reads all the time.
    let mut fast = Reader::open(dashboard.address());
    let (send, finished) = mpsc::channel();
    let reader = thread::spawn(move || {
        while send.send(fast.next("update")["stats"]["finished"].as_u64()).is_ok() {}
    });
    let started = Instant::now();
    let mut tasks = 0;
    // The reader reads nothing, and the updates exceed the buffers of its socket. Writing to the socket shows
    // whether the server has closed it.
    while slow.stream.get_mut().write_all(b"\n").is_ok() {
        assert!(started.elapsed() < 3 * LONG, "it's still connected");
        let one = Instant::now();
        while one.elapsed() < Duration::from_secs(1) {
            let batch = client.map(async |x: u64| x, 0..2_000);
            assert_eq!(block_on(ensue::gather(batch)).unwrap().len(), 2_000);
            tasks += 2_000;
        }
        assert_eq!(get(dashboard.address(), "/health").status, 200);
    }
    assert!(started.elapsed() > Duration::from_secs(15), "{:?}", started.elapsed());
    // The other reader is still up to date.
    let started = Instant::now();
    while finished.recv_timeout(LONG).expect("an update") != Some(tasks) {
        assert!(started.elapsed() < LONG, "no update has all {tasks} tasks");
    }
    drop(finished);
    // One more update, for the reader to see that nobody listens.
    client.submit(async || (), ()).result().unwrap();
    reader.join().unwrap();
}

#[test]
fn at_most_two_hundred_connections_are_served() {
    let client = client();
    let dashboard = dashboard(&client);
    let address = dashboard.address();
    let open: Vec<_> = (0..200).map(|_| connect(address)).collect();
    // The last connection is still served.
    let mut last = &open[199];
    write!(last, "GET /health HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = [0; 15];
    last.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    let refused = get(address, "/health");
    assert!(matches!(refused.status, 0 | 503), "{}", refused.head);
    let x = client.submit(async || 42, ());
    assert_eq!(x.result().unwrap(), 42);
    drop(open);
    let started = Instant::now();
    while get(address, "/health").status != 200 {
        assert!(started.elapsed() < LONG);
    }
}

#[test]
fn a_flood_of_readers_is_bounded() {
    let client = client();
    let dashboard = dashboard(&client);
    let address = dashboard.address();
    let mut readers: Vec<_> = (0..32).map(|_| Reader::open(address)).collect();
    readers.iter_mut().for_each(|reader| assert_eq!(reader.next("hello")["client"], "test"));
    let one_more = get(address, "/stream");
    assert_eq!((one_more.status, one_more.header("retry-after")), (503, Some("5")));
    drop(readers);
    let started = Instant::now();
    loop {
        let mut stream = connect(address);
        write!(stream, "GET /stream HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        if &answer == b"HTTP/1.1 200" {
            break;
        }
        assert!(started.elapsed() < LONG);
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn markup_in_keys_stays_text() {
    let evil = "</script><script>alert(1)</script>\"'&\u{2028}";
    let client = Client::builder().name(evil).workers(1).build();
    let dashboard = dashboard(&client);
    let address = dashboard.address();
    let key = format!("{evil}key");
    let x = client.task().key(key.as_str()).name(evil).submit(async || 1, ());
    let failed = client.try_submit(async |text: &str| Err::<(), _>(text.to_owned()), evil);
    failed.result().unwrap_err();
    x.result().unwrap();
    for path in ["/report.html", "/graph.svg"] {
        let body = get(address, path).body;
        assert!(!body.contains("<script>alert"), "{path}");
        assert!(body.contains("alert(1)"), "{path}");
    }
    let tasks = get(
        address,
        "/api/tasks?name=%3C%2Fscript%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E%22%27%26%E2%80%A8",
    )
    .json();
    assert_eq!(tasks["tasks"][0]["key"], key);
    let dot = get(address, "/graph.dot").body;
    assert!(!dot.contains("\"'&\n"), "{dot}");
}

#[test]
fn the_list_of_tasks_is_filtered_and_has_pages() {
    let client = client();
    let dashboard = dashboard(&client);
    let address = dashboard.address();
    let inc = client.task().name("inc").map(async |x: u64| x + 1, 0..250);
    block_on(ensue::gather(&inc)).unwrap();
    client.task().name("no").try_submit(async || Err::<(), _>("no"), ()).result().unwrap_err();
    let list = |query: &str| get(address, &format!("/api/tasks?{query}")).json();
    let count = |value: &Value| value["tasks"].as_array().unwrap().len();
    let first = list("name=inc");
    assert_eq!(count(&first), 200);
    let second = list(&format!("name=inc&after={}", first["next"]));
    assert_eq!((count(&second), &second["next"]), (50, &Value::Null));
    let failed = list("state=failed");
    assert_eq!((count(&failed), failed["tasks"][0]["name"].as_str()), (1, Some("no")));
    assert_eq!(count(&list("key=INC-&limit=7")), 7);
    assert_eq!(count(&list("limit=0")), 0);
    let number = &failed["tasks"][0]["id"];
    let task = get(address, &format!("/api/task/{number}")).json();
    assert_eq!(task["status"], "failed");
    assert!(task["explain"]["text"].as_str().unwrap().contains("no"), "{task}");
    let phases = task["timeline"]["phases"].as_array().unwrap();
    assert_eq!(phases.last().unwrap()["status"], "failed", "{task}");
}

#[test]
fn remote_addresses_need_allow_remote() {
    let client = client();
    let refused = client.dashboard().bind("0.0.0.0:0").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    assert!(refused.to_string().contains("allow_remote"), "{refused}");
    let dashboard = client.dashboard().allow_remote().bind("0.0.0.0:0").unwrap();
    assert!(dashboard.link().starts_with("http://127.0.0.1:"), "{}", dashboard.link());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(client.dashboard().bind(taken.local_addr().unwrap()).is_err());
}

/// Counts the threads of this process that serve a dashboard.
#[cfg(target_os = "linux")]
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("the threads");
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("ensue-dashboar")).count()
}

#[test]
fn stopping_closes_everything() {
    let client = client();
    let dashboard = dashboard(&client);
    let address = dashboard.address();
    let mut reader = Reader::open(address);
    reader.next("update");
    let mut idle = connect(address);
    dashboard.stop();
    let mut rest = Vec::new();
    let _ = idle.read_to_end(&mut rest);
    let _ = reader.stream.read_to_end(&mut rest);
    assert!(TcpStream::connect(address).is_err());
    // The address can be used again at once.
    let again = client.dashboard().bind(address).unwrap();
    assert_eq!(get(again.address(), "/health").status, 200);
}

#[cfg(target_os = "linux")]
#[test]
fn many_dashboards_leave_no_thread_behind() {
    let client = client();
    for _ in 0..20 {
        let dashboard = dashboard(&client);
        let _reader = Reader::open(dashboard.address());
        drop(dashboard);
    }
    // Tests that run at the same time have dashboards of their own.
    let started = Instant::now();
    while threads() > 20 {
        assert!(started.elapsed() < LONG);
    }
}

#[test]
fn it_shows_a_client_that_was_dropped() {
    let client = client();
    let dashboard = dashboard(&client);
    let kept = client.submit(async || 1, ());
    kept.result().unwrap();
    let waiting = client.submit(async || std::future::pending::<()>().await, ());
    while waiting.status() != Status::Running {
        thread::yield_now();
    }
    let mut reader = Reader::open(dashboard.address());
    reader.until_finished(1);
    drop(client);
    // The dashboard didn't keep the client alive.
    assert_eq!(waiting.result().unwrap_err().kind(), ensue::ErrorKind::Closed);
    let started = Instant::now();
    while reader.next("update")["stats"]["workers"] != 0 {
        assert!(started.elapsed() < LONG);
    }
    assert_eq!(get(dashboard.address(), "/api/tasks").json()["tasks"].as_array().unwrap().len(), 2);
    assert_eq!(get(dashboard.address(), "/metrics").status, 200);
}

#[test]
fn a_report_is_one_file_with_the_record() {
    let client = client();
    client.observe();
    let x = client.task().name("inc").submit(async |x: u64| x + 1, 1);
    x.result().unwrap();
    let path = std::env::temp_dir().join(format!("ensue-test-report-{}.html", std::process::id()));
    client.report(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let (_, record) = text.split_once("id=\"record\">").unwrap();
    let (record, _) = record.split_once("</script>").unwrap();
    let record: Value = serde_json::from_str(record).unwrap();
    assert_eq!(record["hello"]["client"], "test");
    assert_eq!(record["updates"][0]["tasks"].as_array().unwrap().len(), 1);
    assert!(client.report("/no/such/folder/run.html").is_err());
}
