//! The writer of pickles, protocol 4.

const MARK: u8 = b'(';

/// Writes a pickle, or a part of one: values one after the other. Containers and calls take a closure that writes their
/// content.
#[derive(Clone, Debug, Default)]
pub struct Pickler(Vec<u8>);

impl Pickler {
    /// Returns a writer without values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the pickle of the one value that was written.
    pub fn finish(self) -> Vec<u8> {
        let mut pickle = Vec::with_capacity(self.0.len() + 3);
        pickle.extend_from_slice(b"\x80\x04");
        pickle.extend_from_slice(&self.0);
        pickle.push(b'.');
        pickle
    }

    /// Returns the number of bytes written.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends the values of another writer.
    pub fn append(&mut self, part: &Self) {
        self.0.extend_from_slice(&part.0);
    }

    /// Writes `None`.
    pub fn none(&mut self) {
        self.0.push(b'N');
    }

    /// Writes `True` or `False`.
    pub fn bool(&mut self, it: bool) {
        self.0.push(if it { 0x88 } else { 0x89 });
    }

    /// Writes an `int`.
    pub fn int(&mut self, it: i128) {
        if let Ok(short) = i32::try_from(it) {
            self.0.push(b'J');
            self.0.extend_from_slice(&short.to_le_bytes());
            return;
        }
        // Two's complement, without the high bytes that only repeat the sign.
        let bytes = it.to_le_bytes();
        let mut len = bytes.len();
        while len > 1 && i128_of(&bytes[..len - 1]) == it {
            len -= 1;
        }
        self.0.extend_from_slice(&[0x8a, len as u8]);
        self.0.extend_from_slice(&bytes[..len]);
    }

    /// Writes a `float`.
    pub fn float(&mut self, it: f64) {
        self.0.push(b'G');
        self.0.extend_from_slice(&it.to_be_bytes());
    }

    /// Writes a `str`.
    pub fn str(&mut self, text: &str) {
        self.sized([0x8c, b'X', 0x8d], text.as_bytes());
    }

    /// Writes `bytes`.
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

    /// Writes a class or function, by name.
    pub fn global(&mut self, module: &str, name: &str) {
        self.str(module);
        self.str(name);
        self.0.push(0x93);
    }

    /// Writes a `tuple` of the values that `inside` writes.
    pub fn tuple<T>(&mut self, inside: impl FnOnce(&mut Self) -> T) -> T {
        self.0.push(MARK);
        let done = inside(self);
        self.0.push(b't');
        done
    }

    /// Writes a `list` of the values that `inside` writes.
    pub fn list<T>(&mut self, inside: impl FnOnce(&mut Self) -> T) -> T {
        self.0.extend_from_slice(&[b']', MARK]);
        let done = inside(self);
        self.0.push(b'e');
        done
    }

    /// Writes a `dict` of the keys and values that `inside` writes in turn.
    pub fn dict<T>(&mut self, inside: impl FnOnce(&mut Self) -> T) -> T {
        self.0.extend_from_slice(&[b'}', MARK]);
        let done = inside(self);
        self.0.push(b'u');
        done
    }

    /// Writes an empty `set`.
    pub fn empty_set(&mut self) {
        self.0.push(0x8f);
    }

    /// Writes a call of a class or function with the arguments that `inside` writes.
    pub fn call<T>(&mut self, module: &str, name: &str, inside: impl FnOnce(&mut Self) -> T) -> T {
        self.global(module, name);
        let done = self.tuple(inside);
        self.0.push(b'R');
        done
    }
}

/// Returns the number that up to 16 bytes are, in little-endian two's complement.
pub(super) fn i128_of(bytes: &[u8]) -> i128 {
    let fill = if bytes.last().is_some_and(|byte| *byte >= 0x80) { 0xff } else { 0 };
    let mut whole = [fill; 16];
    whole[..bytes.len()].copy_from_slice(bytes);
    i128::from_le_bytes(whole)
}

/// Returns the pickle of a class or function.
pub fn class(module: &str, name: &str) -> Vec<u8> {
    let mut pickler = Pickler::new();
    pickler.global(module, name);
    pickler.finish()
}

/// Returns the pickle of a `RuntimeError`.
pub fn runtime_error(text: &str) -> Vec<u8> {
    builtin_error("RuntimeError", text)
}

/// Returns the pickle of an exception of a built-in class.
pub fn builtin_error(class: &str, text: &str) -> Vec<u8> {
    let mut pickler = Pickler::new();
    pickler.call("builtins", class, |args| args.str(text));
    pickler.finish()
}
