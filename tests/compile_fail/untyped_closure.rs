// An argument that comes from a handle may be the value or a `Ref`: the closure has to say which.

fn main() {
    let client = ensue::Client::new();
    let x = client.submit(async || 1u64, ());
    let y = client.submit(async |x| x + 1, &x);
    y.result().unwrap();
}
