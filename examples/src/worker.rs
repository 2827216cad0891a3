//! The command line of a worker.

use std::process::ExitCode;

use ensue::dask::{Registry, Tls, Worker};
use futures::executor::block_on;
use lexopt::Arg::{Long, Short, Value};
use lexopt::{Parser, ValueExt};
use log::{Level, LevelFilter, Log, Metadata, Record};

/// The values on the command line; see [`OPTIONS`].
#[derive(Debug, Default, PartialEq)]
struct Asked {
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

SCHEDULER is an address such as tcp://10.0.0.1:8786, or tls://10.0.0.1:8786

  --threads N             tasks that run at a time; by default one for each core
  --memory-limit BYTES    such as 4GB, 512MiB or 1e9; results beyond are written to files
  --name NAME             the name of the worker in the scheduler and on its pages
  --resource NAME=AMOUNT  a resource that tasks can require, such as gpu=1; may be repeated
  --listen HOST:PORT      the address to listen on; by default any port of the address
                          from which the scheduler is reached
  --announce HOST         the host that the scheduler announces to other workers and clients
  --local-directory PATH  the directory for results that are written to files
  --tls-ca FILE --tls-cert FILE --tls-key FILE
                          PEM files for tls:// addresses";

/// Reads the command line. `None` if it asks for the usage.
fn read(mut arguments: Parser) -> Result<Option<Asked>, lexopt::Error> {
    let mut asked = Asked::default();
    while let Some(argument) = arguments.next()? {
        let option = match argument {
            Long("help") | Short('h') => return Ok(None),
            Long(option) => option.to_owned(),
            Value(address) if asked.scheduler.is_empty() => {
                asked.scheduler = address.string()?;
                continue;
            }
            Value(address) => {
                let address = address.string()?;
                return Err(format!("one address too many: `{address}`").into());
            }
            other => return Err(other.unexpected()),
        };
        let mut value = || match arguments.value() {
            Ok(value) => value.string(),
            Err(_) => Err(format!("--{option} takes a value").into()),
        };
        match &*option {
            "threads" => asked.threads = Some(threads(&value()?)?),
            "memory-limit" => asked.memory_limit = Some(bytes(&value()?)?),
            "name" => asked.name = Some(value()?),
            "resource" => asked.resources.push(resource(&value()?)?),
            "listen" => asked.listen = Some(value()?),
            "announce" => asked.announce = Some(value()?),
            "local-directory" => asked.local_directory = Some(value()?),
            "tls-ca" => asked.tls[0] = Some(value()?),
            "tls-cert" => asked.tls[1] = Some(value()?),
            "tls-key" => asked.tls[2] = Some(value()?),
            _ => return Err(format!("unknown option `--{option}`").into()),
        }
    }
    if asked.scheduler.is_empty() {
        return Err("the address of a scheduler is missing".into());
    }
    Ok(Some(asked))
}

fn threads(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("--threads takes a number from 1 on, not `{text}`"))
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
        .ok_or_else(|| format!("--memory-limit takes a size such as 4GB, not `{text}`"))
}

fn resource(text: &str) -> Result<(String, f64), String> {
    text.split_once('=')
        .and_then(|(name, amount)| Some((name.to_owned(), amount.parse().ok()?)))
        .filter(|(name, amount): &(_, f64)| !name.is_empty() && *amount > 0.0 && amount.is_finite())
        .ok_or_else(|| format!("--resource takes a name and an amount such as gpu=1, not `{text}`"))
}

/// A logger that writes errors, warnings and information to the standard error output.
struct Errors;

impl Log for Errors {
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
    let asked = match read(arguments) {
        Ok(Some(asked)) => asked,
        Ok(None) => {
            println!("usage: {program} {OPTIONS}");
            return ExitCode::SUCCESS;
        }
        Err(what) => {
            eprintln!("{program}: {what}\nusage: {program} {OPTIONS}");
            return ExitCode::from(2);
        }
    };
    if log::set_logger(&Errors).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
    match worker(&asked, registry).and_then(|worker| {
        block_on(worker.run(&asked.scheduler)).map_err(|error| error.to_string())
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{program}: {what}");
            ExitCode::FAILURE
        }
    }
}

fn worker(asked: &Asked, registry: Registry) -> Result<Worker, String> {
    let mut worker = Worker::new(registry).resources(asked.resources.iter().cloned());
    if let Some(threads) = asked.threads {
        worker = worker.threads(threads);
    }
    if let Some(bytes) = asked.memory_limit {
        worker = worker.memory_limit(bytes);
    }
    if let Some(name) = &asked.name {
        worker = worker.name(name);
    }
    if let Some(address) = &asked.listen {
        worker = worker.listen(address);
    }
    if let Some(host) = &asked.announce {
        worker = worker.announce(host);
    }
    if let Some(folder) = &asked.local_directory {
        worker = worker.local_directory(folder);
    }
    match &asked.tls {
        [None, None, None] => Ok(worker),
        [Some(ca), Some(certificate), Some(key)] => {
            let tls = Tls::new(ca, certificate, key).map_err(|error| error.to_string())?;
            Ok(worker.tls(tls))
        }
        _ => Err("TLS takes all of --tls-ca, --tls-cert and --tls-key".into()),
    }
}

#[cfg(test)]
mod tests;
