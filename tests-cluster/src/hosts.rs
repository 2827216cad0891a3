//! Hosts of a network on one machine: network namespaces, each with a link to one bridge.

use std::path::Path;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

/// A bridge, and hosts that are linked to it. All of it is deleted when this is dropped, or, if the process is killed
/// before, when another process makes a network.
#[derive(Debug)]
pub struct Network {
    /// Short enough for the names of interfaces, and unlike those of other tests that run now: `en`, the process,
    /// `n`, a number.
    name: String,
    subnet: u8,
    hosts: Vec<String>,
}

/// A host. [`Host::command`] runs programs on it.
#[derive(Debug)]
pub struct Host {
    namespace: String,
    link: String,
    /// Its IPv4 address.
    pub address: String,
}

impl Network {
    /// Makes a network without hosts.
    ///
    /// # Errors
    ///
    /// If `ip` can't be run or refuses it, with its reason: network namespaces take root.
    pub fn new() -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_abandoned()?;
        let name = format!("en{:x}n{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        ip(&["link", "add", &name, "type", "bridge"])?;
        let mut network = Self { name, subnet: 0, hosts: vec![] };
        ip(&["link", "set", &network.name, "up"])?;
        network.take_a_subnet()?;
        Ok(network)
    }

    /// Takes a subnet that no other network of this machine has: with two of the same, packets reach the wrong one.
    fn take_a_subnet(&mut self) -> Result<(), String> {
        let mut refused = String::new();
        for subnet in 0..=255 {
            self.subnet = subnet;
            // The kernel takes an address any number of times, but a route only once.
            match ip(&["route", "add", &format!("10.77.{subnet}.0/24"), "dev", &self.name]) {
                Ok(_) => {
                    let address = format!("{}/24", self.address(1));
                    ip(&["addr", "add", &address, "dev", &self.name, "noprefixroute"])?;
                    return Ok(());
                }
                Err(reason) => refused = reason,
            }
        }
        Err(refused)
    }

    /// Returns the address of a host. That of the bridge, and so of this process, is 1.
    fn address(&self, host: usize) -> String {
        format!("10.77.{}.{host}", self.subnet)
    }

    /// Adds a host.
    ///
    /// # Errors
    ///
    /// If `ip` refuses it.
    pub fn host(&mut self) -> Result<Host, String> {
        let number = self.hosts.len() + 2;
        let namespace = format!("{}h{number}", self.name);
        let (link, inside) = (format!("{}l{number}", self.name), format!("{}i{number}", self.name));
        ip(&["netns", "add", &namespace])?;
        self.hosts.push(namespace.clone());
        ip(&["link", "add", &link, "type", "veth", "peer", "name", &inside])?;
        ip(&["link", "set", &link, "master", &self.name, "up"])?;
        ip(&["link", "set", &inside, "netns", &namespace])?;
        let address = self.address(number);
        ip(&["-n", &namespace, "addr", "add", &format!("{address}/24"), "dev", &inside])?;
        ip(&["-n", &namespace, "link", "set", &inside, "up"])?;
        ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
        Ok(Host { namespace, link, address })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in &self.hosts {
            let _ = ip(&["netns", "del", namespace]);
        }
        let _ = ip(&["link", "del", &self.name]);
    }
}

/// Deletes the networks of processes that have exited.
fn remove_abandoned() -> Result<(), String> {
    let abandoned = |name: &str| {
        let process = name.strip_prefix("en").and_then(|rest| rest.split_once('n'));
        let process = process.and_then(|(process, _)| u32::from_str_radix(process, 16).ok());
        process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists())
    };
    // Each is the first word of a line, for a bridge after its number.
    for line in ip(&["netns", "list"])?.lines() {
        if let Some(name) = line.split(' ').next().filter(|name| abandoned(name)) {
            let _ = ip(&["netns", "del", name]);
        }
    }
    for line in ip(&["-o", "link", "show", "type", "bridge"])?.lines() {
        if let Some(name) = line.split(": ").nth(1).filter(|name| abandoned(name)) {
            let _ = ip(&["link", "del", name]);
        }
    }
    Ok(())
}

impl Host {
    /// Returns a command that runs `command` on this host.
    pub fn command(&self, command: &Command) -> Command {
        let mut there = Command::new("ip");
        there.args(["netns", "exec", &self.namespace]).arg(command.get_program());
        there.args(command.get_args());
        there.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        there
    }

    /// Takes its link down: packets are lost, and connections stay open.
    pub fn unplug(&self) {
        ip(&["link", "set", &self.link, "down"]).expect("an existing link");
    }

    /// Returns the number of bytes that this host has received.
    pub fn received(&self) -> u64 {
        // The host receives the bytes that the bridge's end of the link sends.
        let path = format!("/sys/class/net/{}/statistics/tx_bytes", self.link);
        std::fs::read_to_string(path).expect("a count").trim().parse().expect("a number")
    }
}

/// Runs `ip`, and returns its output.
fn ip(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("ip").args(arguments).output();
    let output = output.map_err(|error| format!("`ip` can't be run: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("`ip {}`: {}", arguments.join(" "), errors.trim()))
}
