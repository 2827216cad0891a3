//! Digests of pure calls: the same function and the same inputs give the same one.

use std::any::TypeId;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::handle::input::Inputs;

/// 128 bits of the function, the name if one is given, and the inputs with their types, handles by their keys.
pub(crate) fn digest<F: 'static, I, A>(name: Option<&str>, inputs: &I) -> u128
where
    I: Inputs<A> + Hash,
{
    let mut hasher = DefaultHasher::new();
    // A value and a handle may hash alike, and give the function the same type.
    (TypeId::of::<F>(), TypeId::of::<I::Waits>()).hash(&mut hasher);
    if let Some(name) = name {
        name.hash(&mut hasher);
    }
    inputs.hash(&mut hasher);
    // SipHash has 256 bits inside, of which a hash shows 64: going on from there shows others, as its own
    // variant of 128 bits does.
    let high = hasher.finish();
    hasher.write_u8(1);
    u128::from(high) << 64 | u128::from(hasher.finish())
}
