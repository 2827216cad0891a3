// What a task stores of its inputs can't be had by a generic function either.

use ensue::{Client, Input, Inputs};

fn waits<X: Input<u8>>(input: X) {
    let _ = input.into_wait();
}

fn all_wait<X: Inputs<(u8, u8)>>(inputs: X) -> X::Waits {
    inputs.into_waits()
}

fn main() {
    let client = Client::new();
    let x = client.submit(async || 1u8, ());
    waits(&x);
    drop(all_wait((&x, &x)));
}
