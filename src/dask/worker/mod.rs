//! A worker that joins a scheduler and runs registered functions.

mod state;
