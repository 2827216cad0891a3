//! Keys of pure calls: the same function and the same inputs give the same key.

use std::any::TypeId;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::Key;

/// The key of a call: the name, and 128 bits of the function, the types and the inputs, handles by their
/// keys.
pub(crate) fn key(name: &str, identity: (TypeId, TypeId), inputs: &impl Hash) -> Key {
    let mut digest = Digest::new();
    identity.hash(&mut digest);
    inputs.hash(&mut digest);
    let [high, low] = digest.0.map(|half| half.finish());
    format!("{name}-{high:016x}{low:016x}").into()
}

/// Two SipHashes of the same input, told apart by a first byte, which makes them independent.
struct Digest([DefaultHasher; 2]);

impl Digest {
    fn new() -> Self {
        Self([0u8, 1].map(|first| {
            let mut half = DefaultHasher::new();
            half.write_u8(first);
            half
        }))
    }
}

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        self.0.iter_mut().for_each(|half| half.write(bytes));
    }

    fn finish(&self) -> u64 {
        self.0[0].finish()
    }
}
