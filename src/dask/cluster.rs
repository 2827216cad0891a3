//! A scheduler and workers of its own, for trying things out and for tests.
