// An async function does nothing on a thread for blocking work.

async fn inc(x: u64) -> u64 {
    x + 1
}

fn main() {
    let client = ensue::Client::new();
    let x = client.submit_blocking(inc, 1);
    x.result().unwrap();
}
