// What fails may be retried, so it has to be `Clone`; a future is run once, and need not be.

struct Connection;

impl Connection {
    async fn ask(&self) -> Result<u64, String> {
        Ok(1)
    }
}

fn main() {
    let client = ensue::Client::new();
    let connection = Connection;
    let x = client.try_submit(async move || connection.ask().await, ());
    x.result().unwrap();
}
