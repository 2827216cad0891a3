//! The link against a scheduler and workers that do what a test says.

mod fake;
mod link;
mod pinning;
