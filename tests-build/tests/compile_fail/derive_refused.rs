// What `#[derive(Input)]` is no use for, and settings that it doesn't have.

use ensue::{Handle, Input};

#[derive(Input)]
enum Either {
    Left(Handle<u8>),
    Right(u8),
}

#[derive(Input)]
union Bits {
    byte: u8,
    sign: i8,
}

#[derive(Input)]
struct Borrows<'a> {
    image: &'a Handle<u8>,
}

#[derive(Input)]
struct Plain {
    size: u32,
}

#[derive(Input)]
struct Empty;

#[derive(Input)]
#[input(as = u8)]
struct OnTheStruct {
    image: Handle<u8>,
}

#[derive(Input)]
#[input(clone)]
struct UnknownSetting {
    image: Handle<u8>,
}

#[derive(Input)]
struct OnTheField {
    #[input(shared)]
    image: Handle<u8>,
}

fn main() {}
