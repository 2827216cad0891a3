//! The protocol of [Dask](https://distributed.dask.org)'s distributed scheduler, without I/O: bytes in, messages out,
//! and the other way round.
//!
//! A message is a list of frames. The first is msgpack, and refers to objects in the frames that follow. A connection
//! begins with the handshake. Then it carries calls, or [`client::register`] or a [`worker::register::Registration`]
//! makes it a stream of operations in both directions.
//!
//! | module                                  | content                                                        |
//! |-----------------------------------------|----------------------------------------------------------------|
//! | [`frame`]                               | messages as lists of frames, and their framing on a connection |
//! | [`pack`], [`unpack`], [`value`]         | the first frame of a message: msgpack with Dask's marks        |
//! | [`serialized`]                          | objects in the frames that follow                              |
//! | [`msgpack`]                             | a scanner of msgpack with limits                               |
//! | [`handshake`]                           | the first message in each direction                            |
//! | [`capabilities`]                        | the forms of messages that a scheduler understands             |
//! | [`call`]                                | calls with one reply each                                      |
//! | [`client`], [`worker`]                  | operations between clients or workers and the scheduler        |
//! | [`graph`]                               | graphs of tasks                                                |
//! | [`pickle`], [`failure`]                 | pickles as plain data, and Python exceptions                   |
//! | [`rust`]                                | the convention by which tasks call Rust functions              |
//!
//! A client sends a message and reads it as the scheduler does:
//!
//! ```
//! use ensue_dask_proto::frame::{Limits, Reader};
//! use ensue_dask_proto::{call, unpack};
//!
//! let message = call::who_has(&["sum-1"]); // a `Buf`, to be written to a connection
//!
//! let mut reader = Reader::new(Limits::default());
//! reader.feed(&message.to_vec());
//! let frames = reader.message()?.expect("all bytes have arrived");
//! let call = unpack::message(&frames)?;
//! assert_eq!(call.as_map().and_then(|call| call.text("op")), Some("who_has"));
//! # Ok::<_, ensue_dask_proto::WireError>(())
//! ```
//!
//! Nothing that is read is trusted: lengths, depths and counts are limited before memory is reserved for them, and no
//! pickle is ever executed.

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

/// Compiles the example in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
