// A plain function goes to `submit_blocking`.

fn inc(x: u64) -> u64 {
    x + 1
}

fn main() {
    let client = ensue::Client::new();
    let x = client.submit(inc, 1);
    x.result().unwrap();
}
