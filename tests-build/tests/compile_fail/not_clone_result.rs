// The value of a `Result` whose error is not `Clone` is had by a fallible verb.

async fn read(path: &str) -> std::io::Result<String> {
    std::fs::read_to_string(path)
}

async fn run(client: &ensue::Client) {
    let text = client.submit(read, "x").await;
    drop(text);
}

fn main() {
    let client = ensue::Client::new();
    let x = client.submit(read, "x");
    x.result().unwrap().unwrap();
    drop(run(&client));
}
