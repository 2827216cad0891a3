//! The command line of a worker.

use std::process::ExitCode;

use ensue::dask::{Registry, Tls, Worker};
use futures::executor::block_on;
use log::{Level, LevelFilter, Log, Metadata, Record};

/// What can be said on the command line; see [`OPTIONS`].
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Asked {
    pub(crate) scheduler: String,
    pub(crate) threads: Option<usize>,
    pub(crate) memory_limit: Option<u64>,
    pub(crate) name: Option<String>,
    pub(crate) resources: Vec<(String, f64)>,
    pub(crate) tls: [Option<String>; 3],
    pub(crate) listen: Option<String>,
    pub(crate) announce: Option<String>,
    pub(crate) local_directory: Option<String>,
}

pub(crate) const OPTIONS: &str = "SCHEDULER [OPTION...]

SCHEDULER is an address such as tcp://10.0.0.1:8786, or tls://10.0.0.1:8786

  --threads N             run so many tasks at once; by default one a core
  --memory-limit BYTES    such as 4GB, 512MiB or 1e9; results beyond are written to files
  --name NAME             what the scheduler and its pages call the worker
  --resource NAME=AMOUNT  something that tasks can ask for, such as gpu=1; may be repeated
  --listen HOST:PORT      where others connect to; by default any port of the address
                          from which the scheduler is reached
  --announce HOST         the host that others are told to connect to
  --local-directory PATH  where results are written to
  --tls-ca FILE --tls-cert FILE --tls-key FILE
                          PEM files for tls:// addresses";

/// Reads the arguments that follow the program's name. `None` where only help is asked for.
pub(crate) fn read(mut rest: impl Iterator<Item = String>) -> Result<Option<Asked>, String> {
    let mut asked = Asked::default();
    while let Some(argument) = rest.next() {
        if argument == "--help" || argument == "-h" {
            return Ok(None);
        }
        if !argument.starts_with('-') {
            if !asked.scheduler.is_empty() {
                return Err(format!("one address too many: `{argument}`"));
            }
            asked.scheduler = argument;
            continue;
        }
        // `--name=value` is as good as `--name value`.
        let (option, value) = match argument.split_once('=') {
            Some((option, value)) => (option.to_owned(), Some(value.to_owned())),
            None => (argument, None),
        };
        let mut value = || {
            value.clone().or_else(|| rest.next()).ok_or_else(|| format!("{option} takes a value"))
        };
        match &*option {
            "--threads" => asked.threads = Some(threads(&value()?)?),
            "--memory-limit" => asked.memory_limit = Some(bytes(&value()?)?),
            "--name" => asked.name = Some(value()?),
            "--resource" => asked.resources.push(resource(&value()?)?),
            "--listen" => asked.listen = Some(value()?),
            "--announce" => asked.announce = Some(value()?),
            "--local-directory" => asked.local_directory = Some(value()?),
            "--tls-ca" => asked.tls[0] = Some(value()?),
            "--tls-cert" => asked.tls[1] = Some(value()?),
            "--tls-key" => asked.tls[2] = Some(value()?),
            _ => return Err(format!("unknown option `{option}`")),
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

/// A number of bytes, with a unit or without.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
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

/// Writes what a worker has to say to the standard error output, without what is for debugging.
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

/// Runs a worker with the functions of `registry` until it's asked to leave.
pub(crate) fn main(
    program: &str,
    arguments: impl Iterator<Item = String>,
    registry: Registry,
) -> ExitCode {
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
