// A handle's value has the type of the argument.

async fn length(text: String) -> usize {
    text.len()
}

fn main() {
    let client = ensue::Client::new();
    let x = client.submit(async || 1u64, ());
    let y = client.submit(length, &x);
    y.result().unwrap();
}
