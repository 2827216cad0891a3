//! Hosts of a network on this machine: network namespaces, each with a link to one bridge.

use std::process::{Command, id};
use std::sync::atomic::{AtomicU32, Ordering};

/// A bridge, and hosts that are linked to it. All of it goes when this is dropped.
pub(crate) struct Network {
    /// Short enough for the names of interfaces, and unlike those of other tests that run now.
    name: String,
    subnet: u32,
    hosts: Vec<String>,
}

/// Programs run there by [`Host::command`].
pub(crate) struct Host {
    namespace: String,
    link: String,
    pub(crate) address: String,
}

impl Network {
    /// `Err` says why there can't be any here.
    pub(crate) fn new() -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = id().wrapping_mul(16) + COUNT.fetch_add(1, Ordering::Relaxed);
        let network = Self {
            name: format!("en{:x}", number & 0xffffff),
            subnet: number % 250,
            hosts: vec![],
        };
        let bridge = &network.name;
        ip(&["link", "add", bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}/24", network.address(1)), "dev", bridge])?;
        ip(&["link", "set", bridge, "up"])?;
        Ok(network)
    }

    /// That of the bridge, by which this process is reached.
    fn address(&self, host: usize) -> String {
        format!("10.77.{}.{host}", self.subnet)
    }

    pub(crate) fn host(&mut self) -> Result<Host, String> {
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

impl Host {
    /// The command, on this host.
    pub(crate) fn command(&self, command: &Command) -> Command {
        let mut there = Command::new("ip");
        there.args(["netns", "exec", &self.namespace]).arg(command.get_program());
        there.args(command.get_args());
        there.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        there
    }

    /// Pulls the plug: nothing is carried, and nobody is told.
    pub(crate) fn unplug(&self) {
        ip(&["link", "set", &self.link, "down"]).expect("the link is there");
    }

    /// How many bytes have come to this host.
    pub(crate) fn received(&self) -> u64 {
        // What the bridge's end of the link has sent.
        let path = format!("/sys/class/net/{}/statistics/tx_bytes", self.link);
        std::fs::read_to_string(path).expect("a count").trim().parse().expect("a number")
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output();
    let output = output.map_err(|error| format!("`ip` can't be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("`ip {}`: {}", arguments.join(" "), errors.trim()))
}
