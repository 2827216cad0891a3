//! The examples run, exit in time, and print the expected output.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// More than any example needs on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

/// Builds the examples with this test's profile, and returns their folder.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        // This test is <target>/<profile>/deps/<name>.
        let test = env::current_exe().expect("the path of this test");
        let profile = test.ancestors().nth(2).expect("the folder of the profile");
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "--quiet",
            "--package",
            "ensue-examples",
            "--examples",
            "--target-dir",
        ]);
        build.arg(profile.parent().expect("the target folder"));
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
        assert!(status.success(), "the examples build");
        profile.join("examples")
    })
}

fn example(name: &str) -> Command {
    let mut command = Command::new(built().join(name).with_extension(env::consts::EXE_EXTENSION));
    // The folder of the workspace, whose `src` is the default of `wordcount`.
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command
}

/// The exit status, the time and the output of a program.
struct Ended {
    status: ExitStatus,
    output: String,
    errors: String,
    took: Duration,
}

impl Ended {
    fn ok(self) -> Self {
        let Self { status, output, errors, .. } = &self;
        assert!(status.success(), "{status}\n{output}\n{errors}");
        self
    }

    fn has(self, text: &str) -> Self {
        let Self { output, errors, .. } = &self;
        assert!(output.contains(text), "no `{text}` in:\n{output}\n{errors}");
        self
    }
}

fn start(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the example starts")
}

fn run(command: Command) -> Ended {
    finish(start(command), Instant::now())
}

/// Waits for the exit of a program, up to [`LIMIT`].
fn finish(mut child: Child, started: Instant) -> Ended {
    /// Reads on a thread of its own, so that a full pipe can't block the program.
    fn reader(from: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
        thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut from) = from {
                from.read_to_end(&mut text).expect("output");
            }
            String::from_utf8_lossy(&text).into_owned()
        })
    }
    let output = reader(child.stdout.take());
    let errors = reader(child.stderr.take());
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child's status") {
            break status;
        }
        if started.elapsed() > LIMIT {
            child.kill().expect("the child is killed");
            let _ = child.wait();
            let (output, errors) = (output.join().unwrap(), errors.join().unwrap());
            panic!("not done after {LIMIT:?}:\n{output}\n{errors}");
        }
        thread::sleep(Duration::from_millis(5));
    };
    let took = started.elapsed();
    Ended { status, output: output.join().unwrap(), errors: errors.join().unwrap(), took }
}

#[test]
fn the_tour_prints_its_three_totals() {
    let mut tour = example("tour");
    tour.arg("--fast");
    let ended = run(tour).ok();
    let totals: Vec<_> = ended.output.lines().filter(|line| line.starts_with("total = ")).collect();
    assert_eq!(totals, ["total = 98688", "total = 98688", "total = 98944"]);
}

#[test]
fn the_tour_shows_each_step() {
    let mut tour = example("tour");
    // Without the dashboard, only tasks whose key is used take a number.
    tour.args(["--fast", "--no-dashboard"]);
    run(tour)
        .ok()
        .has("client `tour`: 2 workers, limits: connections 1")
        .has("inc(2).await = 3")
        .has("status: Finished }")
        .has("z = add-4: 6")
        .has("client.scale(10)")
        .has("768 of 768 finished")
        .has("before: the store holds 1024 results")
        .has("after:  the store holds 256 results")
        .has("double-9  Failed: task `divide-7` (")
        .has(") failed: 1 can't be divided by 0")
        .has("y: Cancelled: task `nap-10` (")
        .has(") was cancelled")
        .has("connected")
        .has("TimedOut: task `nap-13` (")
        .has(") took longer than its timeout of 50ms")
        .has("client `tour`: 0 workers, limits: connections 1; the store holds 0 results");
}

#[test]
fn the_tour_sleeps_by_default() {
    let ended = run(example("tour")).ok().has("total = 98944");
    // 1281 naps of 10 ms on average, with at most 10 at a time.
    assert!(ended.took > Duration::from_secs(1), "{:?}", ended.took);
}

#[test]
fn the_tour_leaves_no_control_characters_in_a_file() {
    let ended = run(example("tour")).ok();
    assert!(!ended.output.contains(['\r', '\x1b']));
}

#[test]
fn the_tour_shows_a_dashboard_by_default() {
    let mut tour = example("tour");
    tour.args(["--fast", "--hold", "0.2"]);
    let ended = run(tour).ok().has("watch it at http://127.0.0.1:").has("/#token=");
    ended.has("the dashboard stays for 0.2 s");
    let mut tour = example("tour");
    tour.args(["--fast", "--no-dashboard", "--hold", "100"]);
    let ended = run(tour).ok();
    assert!(!ended.output.contains("watch it at") && !ended.output.contains("stays"));
}

#[test]
fn the_tour_holds_for_a_number_of_seconds() {
    for wrong in [&["--hold"][..], &["--hold", "long"], &["--hold", "-1"]] {
        let mut tour = example("tour");
        tour.args(wrong);
        let ended = run(tour);
        assert_eq!(ended.status.code(), Some(2), "{wrong:?}");
        assert!(ended.errors.contains("--hold takes a number of seconds"), "{}", ended.errors);
    }
}

#[test]
fn the_tour_refuses_an_unknown_argument() {
    let mut tour = example("tour");
    tour.arg("--fats");
    let ended = run(tour);
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.errors.contains("unknown argument `--fats`\nusage: tour [--fast]"));
    assert_eq!(ended.output, "");
}

#[test]
fn tokio() {
    run(example("tokio")).ok().has("7 words have 26 letters").has("Connection refused");
}

#[test]
fn smol() {
    run(example("smol")).ok().has("came back").has("the squares of 1 to 10 make 385");
}

#[test]
fn blocking() {
    run(example("blocking"))
        .ok()
        .has("1229 primes below 10000")
        .has("five asked for the answer, one computed it")
        .has("await it instead")
        .has("cancelled after round");
}

#[test]
fn streams() {
    run(example("streams"))
        .ok()
        .has("a million squares make 333332833333500000")
        .has("finished in the order [");
}

/// A folder for one test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, content).expect("a file");
        path
    }

    fn wordcount(&self) -> Command {
        let mut command = example("wordcount");
        command.arg(&self.0);
        command
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn wordcount_counts_this_crate_by_default() {
    run(example("wordcount")).ok().has(" words, ");
}

#[test]
fn wordcount_counts_words_in_all_folders() {
    let folder = Folder::new("words");
    for i in 0..100 {
        folder.file(&format!("{}/{i}", i % 7), b"one Two, two\nthree three THREE\n");
    }
    folder.file("empty", b"");
    let ended = run(folder.wordcount()).ok();
    assert_eq!(
        ended.output,
        "101 files\n600 words, 3 different ones\n     300 three\n     200 two\n     100 one\n"
    );
    assert_eq!(ended.errors, "");
}

#[test]
fn wordcount_counts_nothing_in_an_empty_folder() {
    let folder = Folder::new("nothing");
    let ended = run(folder.wordcount()).ok();
    assert_eq!(ended.output, "0 files\n0 words, 0 different ones\n");
}

#[test]
fn wordcount_reports_and_skips_unreadable_files() {
    let folder = Folder::new("unreadable");
    folder.file("good", b"a b c");
    let bad = folder.file("bad", b"\xff\xfe\xfd");
    let mut expected = vec![bad];
    #[cfg(unix)]
    {
        let dangling = folder.0.join("dangling");
        std::os::unix::fs::symlink("nowhere", &dangling).expect("a link");
        expected.push(dangling);
    }
    let ended = run(folder.wordcount()).ok().has("3 words, 3 different ones");
    for path in &expected {
        assert!(ended.errors.contains(&*path.to_string_lossy()), "{}", ended.errors);
    }
    assert_eq!(ended.errors.lines().count(), expected.len(), "{}", ended.errors);
}

#[test]
fn wordcount_fails_without_the_folder() {
    let mut command = example("wordcount");
    command.arg("no/such/folder");
    let ended = run(command);
    assert!(!ended.status.success());
    assert!(ended.errors.starts_with("wordcount: "), "{}", ended.errors);
}

/// The files are links to one of 4 MB, together more than can be read before the signal comes.
#[cfg(unix)]
#[test]
fn wordcount_stops_at_ctrl_c() {
    let folder = Folder::new("interrupted");
    let first = folder.file("first", &b"the same few words again and again\n".repeat(120_000));
    for i in 0..1000 {
        fs::hard_link(&first, folder.0.join(i.to_string())).expect("a link");
    }
    let started = Instant::now();
    let mut child = start(folder.wordcount());
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    output.read_line(&mut line).expect("a line");
    assert_eq!(line, "1001 files\n");

    let interrupted = Instant::now();
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
    let ended = finish(child, started);
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(ended.errors, "wordcount: interrupted\n");
    assert!(interrupted.elapsed() < LIMIT / 2, "{:?}", interrupted.elapsed());
}
