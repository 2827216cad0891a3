// A task without a handle is abandoned, and the compiler says so.

#![deny(unused_must_use)]

async fn inc(x: u64) -> u64 {
    x + 1
}

fn main() {
    let client = ensue::Client::new();
    client.submit(inc, 1);
    client.map(inc, [1, 2]);
    client.task().priority(1).map(inc, [1, 2]);
}
