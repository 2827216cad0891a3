#![doc = include_str!("../README.md")]

pub mod call;
pub mod capabilities;
pub mod client;
mod error;
pub mod failure;
pub mod frame;
pub mod graph;
pub mod handshake;
mod key;
pub mod msgpack;
mod object;
pub mod pack;
pub mod pickle;
pub mod rust;
pub mod serialized;
pub mod unpack;
pub mod value;
pub mod worker;

pub use error::WireError;
pub use key::WireKey;
