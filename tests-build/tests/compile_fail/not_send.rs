// Work moves from thread to thread between its awaits.

use std::rc::Rc;

fn main() {
    let client = ensue::Client::new();
    let x = client.submit(
        async || {
            let shared = Rc::new(1);
            ensue::sleep(std::time::Duration::ZERO).await;
            *shared
        },
        (),
    );
    x.result().unwrap();
}
