// What the derive macro generates can be written by hand, but nothing can be done in it that isn't safe: what a task
// stores of its inputs can't be made, taken apart, or passed off as that of another type.

use ensue::__derive::{InputSeal, IntoWait, Mapped};
use ensue::{Client, Handle, Input};

type Three = <Handle<[usize; 3]> as IntoWait<[usize; 3]>>::Wait;
type Text = <Handle<String> as IntoWait<String>>::Wait;

struct Evil(Handle<[usize; 3]>);

impl Input<String> for Evil {}

impl IntoWait<String> for Evil {
    type Wait = Text;

    fn into_wait(self, seal: InputSeal) -> Text {
        let three: Three = self.0.into_wait(seal);
        Text { 0: three.0 }
    }
}

impl Input<u8> for Evil {}

impl IntoWait<u8> for Evil {
    type Wait = u8;

    fn into_wait(self, _: InputSeal) -> u8 {
        7
    }
}

impl Input<(u16, String)> for Evil {}

impl IntoWait<(u16, String)> for Evil {
    type Wait = Mapped<Three, String, (u16, String)>;

    fn into_wait(self, _: InputSeal) -> Self::Wait {
        unreachable!()
    }
}

fn taken<X: IntoWait<u8>>(input: X, seal: InputSeal) -> u8 {
    input.into_wait(seal).take().unwrap()
}

fn main() {
    let client = Client::new();
    let three = client.submit(async || [5usize, 0x1000, 5], ());
    let wait: Three = three.into_wait(InputSeal(()));
    let _ = wait.clone();
}
