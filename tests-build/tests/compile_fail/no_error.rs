// The `Err` of a fallible task is an error or a text.

fn main() {
    let client = ensue::Client::new();
    let x = client.try_submit(async || Err::<u64, _>(42), ());
    x.result().unwrap();
}
