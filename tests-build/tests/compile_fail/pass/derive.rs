//! What `#[derive(Input)]` generates has no warnings.

#![deny(warnings, missing_docs, missing_debug_implementations, unreachable_pub, single_use_lifetimes, unused_qualifications)]
#![deny(unsafe_code)]

use ensue::{Client, Handle, Input};

/// A job.
#[derive(Debug, Input)]
#[input(derive(Debug))]
pub struct Job<T = u8>
where
    T: Copy,
{
    /// The parts.
    pub parts: Vec<(u8, Handle<T>)>,
    /// Their size.
    pub size: u32,
}

#[derive(Input)]
struct Unnamed(Handle<u8>, u8);

fn main() {
    let client = Client::new();
    let x = client.ready(1u8);
    let job = Job { parts: vec![(2, x.clone())], size: 3 };
    let sum = async |job: JobValues<u8>| u32::from(job.parts[0].0 + job.parts[0].1) + job.size;
    assert_eq!(client.submit(sum, job).result().unwrap(), 6);
    let sum = async |UnnamedValues(x, y): UnnamedValues| x + y;
    assert_eq!(client.submit(sum, Unnamed(x, 2)).result().unwrap(), 3);
}
