//! Keys of pure calls: the same function and the same inputs give the same key.

use std::any::TypeId;
use std::hash::Hash;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::Key;

/// The key of a call: the name, and 128 bits of the function, the types and the inputs, handles by their
/// keys.
pub(crate) fn key(name: &str, identity: (TypeId, TypeId), inputs: &impl Hash) -> Key {
    let mut hasher = SipHasher13::new();
    identity.hash(&mut hasher);
    inputs.hash(&mut hasher);
    format!("{name}-{:032x}", hasher.finish128().as_u128()).into()
}
