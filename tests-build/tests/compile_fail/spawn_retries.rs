// A future can't be run again.

fn main() {
    let client = ensue::Client::new();
    let x = client.task().retries(3).try_spawn(async { Ok::<_, String>(1) });
    x.result().unwrap();
}
