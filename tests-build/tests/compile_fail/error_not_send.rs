// An error of any type is boxed as `Send`, since it goes from thread to thread.

use std::error::Error;

async fn parse(text: &str) -> Result<u8, Box<dyn Error>> {
    Ok(text.parse()?)
}

fn main() {
    let client = ensue::Client::new();
    let x = client.try_submit(parse, "1");
    x.result().unwrap();
}
