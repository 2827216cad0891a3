// What a pure call captures is no part of its key.

fn main() {
    let client = ensue::Client::new();
    let factor = 3;
    let x = client.submit_pure(async move |x: u64| x * factor, 1);
    x.result().unwrap();
}
