// A future, such as an `async` block, goes to `spawn`.

fn main() {
    let client = ensue::Client::new();
    let x = client.submit(async { 1 }, ());
    x.result().unwrap();
}
