// A future that is not `Send` is named where it's spawned.

use std::rc::Rc;

async fn share(n: u64) -> u64 {
    let shared = Rc::new(n);
    ensue::sleep(std::time::Duration::ZERO).await;
    *shared
}

fn main() {
    let client = ensue::Client::new();
    let x = client.submit(share, 1);
    x.result().unwrap();
}
