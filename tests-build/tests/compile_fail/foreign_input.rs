// `Input` and `Inputs` are sealed: an input of one task can't be passed off as that of another.

use ensue::{Client, Handle, Input, Inputs};

type A = <Handle<[usize; 3]> as Input<[usize; 3]>>::Wait;
type B = <Handle<String> as Input<String>>::Wait;

struct Evil(B);

impl Input<String> for Evil {
    type Wait = B;

    fn into_wait(self) -> B {
        self.0
    }
}

impl Inputs<(u8, u8)> for Evil {}

fn main() {
    let client = Client::new();
    let three = client.submit(async || [5usize, 0x1000, 5], ());
    let A::Awaited(edge) = Input::<[usize; 3]>::into_wait(three) else { unreachable!() };
    let text = client.submit(async |text: String| text, Evil(B::Awaited(edge)));
    println!("{:?}", text.result());
}
