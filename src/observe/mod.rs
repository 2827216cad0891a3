//! Looking at a client from outside. The engine knows nothing of who looks.

pub(crate) mod events;
