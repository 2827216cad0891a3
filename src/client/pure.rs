//! Digests of pure calls. The same function and equal inputs have the same digest.

use std::any::TypeId;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::handle::input::Inputs;

/// Returns a 128-bit hash of the function, the name if it is set, and the inputs with their types.
pub(crate) fn digest<F: 'static, I, A>(name: Option<&str>, inputs: &I) -> u128
where
    I: Inputs<A> + Hash,
{
    let mut hasher = DefaultHasher::new();
    // A value and a handle may have the same hash and become arguments of the same type, so their own types are
    // hashed too.
    (TypeId::of::<F>(), TypeId::of::<I::Waits>()).hash(&mut hasher);
    if let Some(name) = name {
        name.hash(&mut hasher);
    }
    inputs.hash(&mut hasher);
    // SipHash has 256 bits of state, and a hash is 64 bits of it. Another round gives 64 further bits, as in its
    // variant of 128 bits.
    let high = hasher.finish();
    hasher.write_u8(1);
    u128::from(high) << 64 | u128::from(hasher.finish())
}
