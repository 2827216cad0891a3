//! Writing pickles, protocol 4.

const MARK: u8 = b'(';

/// A pickle that is being written, or a part of one: values one after the other.
///
/// Containers and calls are opened and closed around what they hold.
#[derive(Clone, Debug, Default)]
pub struct Pickler(Vec<u8>);

impl Pickler {
    /// Of which nothing is written yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The pickle of the one value that was written.
    pub fn finish(self) -> Vec<u8> {
        let mut pickle = Vec::with_capacity(self.0.len() + 3);
        pickle.extend_from_slice(b"\x80\x04");
        pickle.extend_from_slice(&self.0);
        pickle.push(b'.');
        pickle
    }

    /// How many bytes are written.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that was written there.
    pub fn append(&mut self, part: &Self) {
        self.0.extend_from_slice(&part.0);
    }

    /// `None`.
    pub fn none(&mut self) {
        self.0.push(b'N');
    }

    /// `True` or `False`.
    pub fn bool(&mut self, it: bool) {
        self.0.push(if it { 0x88 } else { 0x89 });
    }

    /// A whole number; any `i64` and `u64` is one.
    pub fn int(&mut self, it: i128) {
        if let Ok(short) = i32::try_from(it) {
            self.0.push(b'J');
            self.0.extend_from_slice(&short.to_le_bytes());
            return;
        }
        // Two's complement, without the bytes at the end that only repeat the sign.
        let bytes = it.to_le_bytes();
        let mut len = bytes.len();
        while len > 1 && i128_of(&bytes[..len - 1]) == it {
            len -= 1;
        }
        self.0.extend_from_slice(&[0x8a, len as u8]);
        self.0.extend_from_slice(&bytes[..len]);
    }

    /// A float.
    pub fn float(&mut self, it: f64) {
        self.0.push(b'G');
        self.0.extend_from_slice(&it.to_be_bytes());
    }

    /// Text.
    pub fn str(&mut self, text: &str) {
        self.sized([0x8c, b'X', 0x8d], text.as_bytes());
    }

    /// Bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.sized([b'C', b'B', 0x8e], bytes);
    }

    fn sized(&mut self, [short, long, very_long]: [u8; 3], bytes: &[u8]) {
        if let Ok(len) = u8::try_from(bytes.len()) {
            self.0.extend_from_slice(&[short, len]);
        } else if let Ok(len) = u32::try_from(bytes.len()) {
            self.0.push(long);
            self.0.extend_from_slice(&len.to_le_bytes());
        } else {
            self.0.push(very_long);
            self.0.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        }
        self.0.extend_from_slice(bytes);
    }

    /// A class or function of a module.
    pub fn global(&mut self, module: &str, name: &str) {
        self.str(module);
        self.str(name);
        self.0.push(0x93);
    }

    /// A tuple of what is written inside.
    pub fn tuple<T>(&mut self, inside: impl FnOnce(&mut Self) -> T) -> T {
        self.0.push(MARK);
        let done = inside(self);
        self.0.push(b't');
        done
    }

    /// A list of what is written inside.
    pub fn list<T>(&mut self, inside: impl FnOnce(&mut Self) -> T) -> T {
        self.0.extend_from_slice(&[b']', MARK]);
        let done = inside(self);
        self.0.push(b'e');
        done
    }

    /// A dict of the keys and values that are written inside.
    pub fn dict<T>(&mut self, inside: impl FnOnce(&mut Self) -> T) -> T {
        self.0.extend_from_slice(&[b'}', MARK]);
        let done = inside(self);
        self.0.push(b'u');
        done
    }

    /// A set with nothing in it.
    pub fn empty_set(&mut self) {
        self.0.push(0x8f);
    }

    /// What the class or function gives for the arguments that are written inside.
    pub fn call<T>(&mut self, module: &str, name: &str, inside: impl FnOnce(&mut Self) -> T) -> T {
        self.global(module, name);
        let done = self.tuple(inside);
        self.0.push(b'R');
        done
    }
}

/// Two's complement, up to 16 bytes.
pub(super) fn i128_of(bytes: &[u8]) -> i128 {
    let fill = if bytes.last().is_some_and(|byte| *byte >= 0x80) { 0xff } else { 0 };
    let mut whole = [fill; 16];
    whole[..bytes.len()].copy_from_slice(bytes);
    i128::from_le_bytes(whole)
}

/// The pickle of a class or function.
pub fn class(module: &str, name: &str) -> Vec<u8> {
    let mut pickler = Pickler::new();
    pickler.global(module, name);
    pickler.finish()
}

/// The pickle of a `RuntimeError`, which is what an error of ours is to Python.
pub fn runtime_error(text: &str) -> Vec<u8> {
    builtin_error("RuntimeError", text)
}

/// The pickle of an exception that comes with Python.
pub fn builtin_error(class: &str, text: &str) -> Vec<u8> {
    let mut pickler = Pickler::new();
    pickler.call("builtins", class, |args| args.str(text));
    pickler.finish()
}
