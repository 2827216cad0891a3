//! With libraries of C and C++: programs that are compiled when they're needed, and run the graphs in processes of their own.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use super::System;
use crate::graph::Graph;
use crate::kernel::Kernel;

/// A program, which reads the number of threads and the graphs, and then runs them for each line with a kernel.
pub(crate) struct Native {
    program: PathBuf,
    threads: usize,
    /// The process, and the graphs that it has read.
    running: Option<(Running, *const Graph)>,
}

struct Running {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// Compiles the program with OpenMP; `None` where that can't be done.
pub(crate) fn open_mp(threads: usize) -> Option<Native> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| compile("cc", &["-fopenmp"], "openmp.c", &[]));
    Some(Native::new(program.clone()?, threads))
}

/// Compiles the program with oneTBB; `None` where that can't be done.
pub(crate) fn tbb(threads: usize) -> Option<Native> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| compile("c++", &["-std=c++17"], "tbb.cpp", &["-ltbb"]));
    Some(Native::new(program.clone()?, threads))
}

/// Compiles a file into the folder of this program.
fn compile(compiler: &str, flags: &[&str], file: &str, libraries: &[&str]) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("task_bench/native").join(file);
    let this = env::current_exe().expect("the path of this program");
    let program = this.with_file_name(format!("task_bench-{}", file.replace('.', "-")));
    let mut command = Command::new(compiler);
    command.arg("-O2").args(flags).arg(source).arg("-o").arg(&program).args(libraries);
    let compiled = command.stderr(Stdio::null()).status();
    compiled.is_ok_and(|status| status.success()).then_some(program)
}

impl Native {
    fn new(program: PathBuf, threads: usize) -> Self {
        Self { program, threads, running: None }
    }
}

impl System for Native {
    fn run(&mut self, graphs: &[Graph], kernel: Kernel) -> u64 {
        if self.running.as_ref().is_none_or(|(_, read)| *read != graphs.as_ptr()) {
            let running = Running::start(&self.program, self.threads, graphs);
            self.running = Some((running, graphs.as_ptr()));
        }
        let Some((running, _)) = &mut self.running else { unreachable!("it was started") };
        running.run(kernel)
    }
}

impl Running {
    fn start(program: &Path, threads: usize, graphs: &[Graph]) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program was compiled");
        let mut input = child.stdin.take().expect("it's a pipe");
        let output = BufReader::new(child.stdout.take().expect("it's a pipe"));
        let mut text = format!("{threads} {}\n", graphs.len());
        for graph in graphs {
            text += &format!("{}\n", graph.rows().len());
            for row in graph.rows() {
                text += &format!("{}\n", row.len());
                for inputs in row {
                    let inputs: Vec<_> = inputs.iter().map(usize::to_string).collect();
                    text += &format!("{} {}\n", inputs.len(), inputs.join(" "));
                }
            }
        }
        input.write_all(text.as_bytes()).expect("it reads the graphs");
        Self { child, input, output }
    }

    fn run(&mut self, kernel: Kernel) -> u64 {
        let (kind, steps) = match kernel {
            Kernel::Empty => (0, 0),
            Kernel::Compute(steps) => (1, steps),
            Kernel::Imbalance(steps) => (2, steps),
        };
        writeln!(self.input, "{kind} {steps}").expect("it reads the kernel");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it writes the result");
        line.trim().parse().expect("the result is a number")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
