//! The seal of the public traits that only this crate implements.

/// The last argument of a sealed trait's hidden methods. It can't be named or made outside of this crate, so these
/// methods can be neither implemented nor called there.
#[derive(Clone, Copy, Debug)]
pub struct Seal(());

pub(crate) const SEAL: Seal = Seal(());

/// The same for the traits of inputs, which the derive macro implements: it names this type, and passes on what it gets.
#[derive(Clone, Copy, Debug)]
pub struct InputSeal(());

pub(crate) const INPUT_SEAL: InputSeal = InputSeal(());
