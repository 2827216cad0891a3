//! What a call site of a verb costs its users: compile time, and the size of the binary.
//!
//! ```text
//! cargo bench -p ensue-benches --bench call_sites
//! ```
//!
//! Compiles programs with 100 call sites of a verb, each of a function of its own, beside the same program with one of them.
//! The difference is that of 99 sites. It's processor time of the compiler, of which the median of three builds counts. Linux
//! only: it's read from `/proc`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

const SITES: usize = 100;

/// The number of builds.
static RUN: AtomicUsize = AtomicUsize::new(0);

/// A name, and the expression of a call site; `N` stands for its number.
const VERBS: [(&str, &str); 12] = [
    ("tokio::spawn", "tokio(tokio::spawn(async_N(1)))"),
    ("submit", "ours(client.submit(async_N, &x))"),
    ("try_submit", "ours(client.try_submit(fallible_N, &x))"),
    ("submit_blocking", "ours(client.submit_blocking(blocking_N, &x))"),
    ("spawn", "ours(client.spawn(async_N(1)))"),
    ("try_spawn", "ours(client.try_spawn(fallible_N(1)))"),
    ("map", "ours(client.map(async_N, [1, 2]).pop().unwrap())"),
    ("priority(1).submit", "ours(client.task().priority(1).submit(async_N, &x))"),
    ("key(…).submit", "ours(client.task().key(\"key_N\").submit(async_N, &x))"),
    ("retries(2).submit", "ours(client.task().retries(2).submit(async_N, &x))"),
    ("timeout(…).try_submit", "ours(client.task().timeout(LONG).try_submit(fallible_N, &x))"),
    (
        "retries(2).submit_blocking",
        "ours(client.task().retries(2).submit_blocking(blocking_N, &x))",
    ),
];

/// The README's first program on threads of the crate's own, and the same on tokio alone.
const SMALL: [(&str, &str); 2] = [
    (
        "ensue",
        "async fn inc(x: u64) -> u64 { x + 1 }
         async fn double(x: u64) -> u64 { x * 2 }
         async fn add(x: u64, y: u64) -> u64 { x + y }
         fn main() {
             let client = ensue::Client::new();
             let x = client.submit(inc, 1);
             let y = client.submit(double, &x);
             let z = client.submit(add, (&x, &y));
             println!(\"{}\", z.result().unwrap());
         }",
    ),
    (
        "tokio",
        "async fn inc(x: u64) -> u64 { x + 1 }
         async fn double(x: u64) -> u64 { x * 2 }
         async fn add(x: u64, y: u64) -> u64 { x + y }
         #[tokio::main]
         async fn main() {
             let x = tokio::spawn(inc(1)).await.unwrap();
             let y = tokio::spawn(double(x)).await.unwrap();
             println!(\"{}\", tokio::spawn(add(x, y)).await.unwrap());
         }",
    ),
];

fn main() {
    let package = Package::create();
    for profile in [Profile::Debug, Profile::Release] {
        println!("\n{profile:?}: compile time of a call site, ms of processor time\n");
        println!("| verb | ms | of `tokio::spawn` |\n|---|--:|--:|");
        let mut peer = 0.0;
        for (name, call) in VERBS {
            let [one, all] =
                [1, SITES].map(|sites| package.compile(profile, &program(call, sites)));
            let site = (all - one) * 1000.0 / (SITES - 1) as f64;
            if peer == 0.0 {
                peer = site;
            }
            println!("| `{name}` | {site:.1} | {:.2} |", site / peer);
        }
    }
    println!("\nRelease: a stripped binary\n\n| crate | KiB |\n|---|--:|");
    for (name, source) in SMALL {
        package.build(Profile::Release, source);
        let binary = package.binary(Profile::Release).metadata().expect("a binary");
        println!("| {name} | {} |", binary.len() / 1024);
    }
}

/// A program with so many call sites. It's compiled and never run.
fn program(call: &str, sites: usize) -> String {
    let mut source = String::from(
        "#![allow(dead_code, unused)]
         use ensue::{Client, Handle};
         const LONG: std::time::Duration = std::time::Duration::from_secs(1);
         fn ours(_: Handle<u64>) {}
         fn tokio(_: tokio::task::JoinHandle<u64>) {}\n",
    );
    let mut body = String::new();
    for site in 0..sites {
        writeln!(
            source,
            "async fn async_{site}(x: u64) -> u64 {{ x + {site} }}
             async fn fallible_{site}(x: u64) -> Result<u64, std::fmt::Error> {{ Ok(x + {site}) }}
             fn blocking_{site}(x: u64) -> u64 {{ x + {site} }}"
        )
        .expect("a string takes any text");
        body += &format!("    {};\n", call.replace("_N", &format!("_{site}")));
    }
    let begin = "    let client = Client::new();\n    let x = client.submit(async || 1, ());\n";
    source + "fn main() {\n" + begin + &body + "}\n"
}

#[derive(Clone, Copy, Debug)]
enum Profile {
    Debug,
    Release,
}

/// A package that depends on this crate and on tokio.
struct Package(PathBuf);

impl Package {
    fn create() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("call_sites");
        fs::create_dir_all(folder.join("src")).expect("a folder for the programs");
        let manifest = format!(
            "[package]\nname = \"call_sites\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n\
             ensue = {{ path = {here:?} }}\n\
             tokio = {{ version = \"1\", features = [\"rt-multi-thread\", \"macros\"] }}\n\
             [profile.dev]\nincremental = false\n[profile.release]\nstrip = true\n"
        );
        fs::write(folder.join("Cargo.toml"), manifest).expect("its manifest");
        // The versions that the rest of the workspace is tested with.
        fs::copy(here.join("Cargo.lock"), folder.join("Cargo.lock")).expect("its lock file");
        let package = Self(folder);
        // The dependencies, which don't count.
        for profile in [Profile::Debug, Profile::Release] {
            package.build(profile, "fn main() {}");
        }
        package
    }

    /// Compiles a program, and returns the median of the seconds of processor time.
    fn compile(&self, profile: Profile, source: &str) -> f64 {
        let mut times = [(); 3].map(|()| {
            let before = processor_time_of_children();
            self.build(profile, source);
            processor_time_of_children() - before
        });
        times.sort_by(f64::total_cmp);
        times[1]
    }

    fn build(&self, profile: Profile, source: &str) {
        fs::write(self.0.join("src/main.rs"), source).expect("a source file");
        // Another number each time: cargo compiles the program also if its text is the same as before.
        let run = RUN.fetch_add(1, Ordering::Relaxed) + std::process::id() as usize * 1000;
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(&self.0).env_remove("CARGO_TARGET_DIR");
        cargo.args(["rustc", "--quiet", "--target-dir", "target"]);
        if let Profile::Release = profile {
            cargo.arg("--release");
        }
        cargo.args(["--", "--check-cfg", "cfg(run, values(any()))"]);
        cargo.args(["--cfg", &format!("run=\"{run}\"")]);
        let built = cargo.status().expect("cargo");
        assert!(built.success(), "the program doesn't compile");
    }

    fn binary(&self, profile: Profile) -> PathBuf {
        let folder = match profile {
            Profile::Debug => "debug",
            Profile::Release => "release",
        };
        self.0.join("target").join(folder).join("call_sites")
    }
}

/// The processor time of all children that have ended, in seconds.
fn processor_time_of_children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux's /proc");
    // The name is in parentheses and may contain spaces. The 14th and 15th field after it are meant.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks = fields.skip(13).take(2).map(|ticks| ticks.parse::<f64>().expect("ticks"));
    // A tick of this file is a hundredth of a second on every system.
    ticks.sum::<f64>() / 100.0
}
