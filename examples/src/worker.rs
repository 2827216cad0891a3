//! The command line of a worker.

use std::process::ExitCode;

use ensue::dask::{Registry, Tls, Worker};
use futures::executor::block_on;
use lexopt::Arg::{Long, Short, Value};
use lexopt::{Parser, ValueExt};
use log::{Level, LevelFilter, Log, Metadata, Record};

/// The values on the command line; see [`OPTIONS`].
#[derive(Debug, Default, PartialEq)]
struct WorkerOptions {
    scheduler: String,
    threads: Option<usize>,
    memory_limit: Option<u64>,
    name: Option<String>,
    resources: Vec<(String, f64)>,
    tls: [Option<String>; 3],
    listen: Option<String>,
    announce: Option<String>,
    local_directory: Option<String>,
}

const OPTIONS: &str = "SCHEDULER [OPTION...]

SCHEDULER is the address of a scheduler, such as tcp://10.0.0.1:8786 or tls://10.0.0.1:8786

  --threads N             number of tasks to run at the same time [default: one per core]
  --memory-limit BYTES    such as 4GB, 512MiB or 1e9; above 70 %, results are spilled to files
                          [default: 80 % of the machine's memory]
  --name NAME             name of the worker on the cluster [default: its address]
  --resource NAME=AMOUNT  resource that tasks can ask for, such as gpu=1; can be repeated
  --listen HOST:PORT      address to listen at [default: any free port of the address from
                          which the scheduler is reached]
  --announce HOST         host by which other workers and clients reach this one, if it
                          isn't the one to listen at
  --local-directory PATH  directory to spill to [default: the system's temporary one]
  --tls-ca FILE --tls-cert FILE --tls-key FILE
                          PEM files for tls:// addresses; all three are needed";

/// Reads the command line. `None` if it asks for the usage.
fn read(mut arguments: Parser) -> Result<Option<WorkerOptions>, lexopt::Error> {
    let mut options = WorkerOptions::default();
    while let Some(argument) = arguments.next()? {
        let option = match argument {
            Long("help") | Short('h') => return Ok(None),
            Long(option) => option.to_owned(),
            Value(address) if options.scheduler.is_empty() => {
                options.scheduler = address.string()?;
                continue;
            }
            Value(address) => {
                let address = address.string()?;
                return Err(format!("unexpected second address `{address}`").into());
            }
            other => return Err(other.unexpected()),
        };
        let mut value = || match arguments.value() {
            Ok(value) => value.string(),
            Err(_) => Err(format!("--{option} needs a value").into()),
        };
        match &*option {
            "threads" => options.threads = Some(threads(&value()?)?),
            "memory-limit" => options.memory_limit = Some(bytes(&value()?)?),
            "name" => options.name = Some(value()?),
            "resource" => options.resources.push(resource(&value()?)?),
            "listen" => options.listen = Some(value()?),
            "announce" => options.announce = Some(value()?),
            "local-directory" => options.local_directory = Some(value()?),
            "tls-ca" => options.tls[0] = Some(value()?),
            "tls-cert" => options.tls[1] = Some(value()?),
            "tls-key" => options.tls[2] = Some(value()?),
            _ => return Err(format!("unknown option `--{option}`").into()),
        }
    }
    if options.scheduler.is_empty() {
        return Err("the address of a scheduler is missing".into());
    }
    Ok(Some(options))
}

fn threads(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("--threads needs a number of at least 1, not `{text}`"))
}

/// Parses a number of bytes, with a unit or without.
fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 9] = [
        ("KiB", 1024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
        ("TiB", 1_099_511_627_776.0),
        ("kB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("TB", 1e12),
        ("B", 1.0),
    ];
    let unit = UNITS.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)));
    let (number, size) = unit.unwrap_or((text, 1.0));
    let number = number.trim_end().parse().ok().filter(|number: &f64| *number > 0.0);
    let bytes = number.map(|number| number * size).filter(|bytes| *bytes < u64::MAX as f64);
    bytes
        .map(|bytes| bytes as u64)
        .ok_or_else(|| format!("--memory-limit needs a size such as 4GB, not `{text}`"))
}

fn resource(text: &str) -> Result<(String, f64), String> {
    text.split_once('=')
        .and_then(|(name, amount)| Some((name.to_owned(), amount.parse().ok()?)))
        .filter(|(name, amount): &(_, f64)| !name.is_empty() && *amount > 0.0 && amount.is_finite())
        .ok_or_else(|| format!("--resource needs a name and an amount such as gpu=1, not `{text}`"))
}

/// A logger that writes errors, warnings and information to the standard error output.
struct StderrLog;

impl Log for StderrLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Info
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            eprintln!("{} {}", record.level(), record.args());
        }
    }

    fn flush(&self) {}
}

/// Runs a worker with the functions of `registry` until the scheduler or a signal closes it, or an error ends it.
/// `program` is its name in messages.
pub fn main(program: &str, arguments: Parser, registry: Registry) -> ExitCode {
    let options = match read(arguments) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("usage: {program} {OPTIONS}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{program}: {error}\nusage: {program} {OPTIONS}");
            return ExitCode::from(2);
        }
    };
    if log::set_logger(&StderrLog).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
    match worker(&options, registry).and_then(|worker| {
        block_on(worker.run(&options.scheduler)).map_err(|error| error.to_string())
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn worker(options: &WorkerOptions, registry: Registry) -> Result<Worker, String> {
    let mut worker = Worker::new(registry).resources(options.resources.iter().cloned());
    if let Some(threads) = options.threads {
        worker = worker.threads(threads);
    }
    if let Some(bytes) = options.memory_limit {
        worker = worker.memory_limit(bytes);
    }
    if let Some(name) = &options.name {
        worker = worker.name(name);
    }
    if let Some(address) = &options.listen {
        worker = worker.listen(address);
    }
    if let Some(host) = &options.announce {
        worker = worker.announce(host);
    }
    if let Some(folder) = &options.local_directory {
        worker = worker.local_directory(folder);
    }
    match &options.tls {
        [None, None, None] => Ok(worker),
        [Some(ca), Some(certificate), Some(key)] => {
            let tls = Tls::new(ca, certificate, key).map_err(|error| error.to_string())?;
            Ok(worker.tls(tls))
        }
        _ => Err("TLS needs all of --tls-ca, --tls-cert and --tls-key".into()),
    }
}

#[cfg(test)]
mod tests;
