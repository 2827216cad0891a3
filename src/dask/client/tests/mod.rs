//! The client and its link against a scheduler and workers that do what a test says.

mod client;
mod fake;
mod keys;
mod link;
mod many;
mod pinning;
