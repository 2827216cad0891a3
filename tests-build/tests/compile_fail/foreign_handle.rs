// The other traits that only the crate implements are sealed by an argument of their hidden methods.

use ensue::{AsHandle, Handle};

struct Mine(Handle<u8>);

impl AsHandle for Mine {
    type Value = u8;

    fn into_handle(self) -> Handle<u8> {
        self.0
    }
}

fn main() {
    let client = ensue::Client::new();
    let x = client.submit(async || 1u8, ());
    let _ = AsHandle::into_handle(x);
}
