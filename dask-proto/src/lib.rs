//! The protocol of Dask's own scheduler, workers and clients, without a socket: bytes in, messages out, and the
//! other way round.
//!
//! A message is a list of frames ([`frame`]). The first is msgpack ([`value`], [`pack`]), which may stand for
//! objects in the frames that follow ([`serialized`]). A conversation begins with a [`handshake`]; then come
//! calls with one reply each ([`call`]), or a stream of operations in both directions ([`client`], [`worker`]).
//! A [`graph`] of tasks travels as a [`pickle`], because it's Python objects that the scheduler wants. What
//! forms a scheduler understands, it is asked ([`capabilities`]): messages are the keyword arguments of its
//! methods, and one too many or too few ends the connection.
//!
//! Nothing that is read is trusted: lengths, depths and counts are bounded, and no pickle is ever executed.

pub mod call;
pub mod capabilities;
pub mod client;
mod error;
pub mod failure;
pub mod frame;
pub mod graph;
pub mod handshake;
mod key;
pub mod pack;
pub mod pickle;
pub mod serialized;
pub mod unpack;
pub mod value;
pub mod worker;

pub use error::WireError;
pub use key::WireKey;
