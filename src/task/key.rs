//! The keys of tasks, and the names that keys are made of.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// The key of a task: `inc-17`, or the one that [`Options::key`](crate::Options::key) has set.
///
/// It dereferences to `str`, is cheap to clone, and compares with text.
///
/// ```
/// let client = ensue::Client::new();
/// let x = client.task().key("answer").submit(async || 42u64, ());
/// assert_eq!(x.key(), "answer");
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Returns the text of the key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Key {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&String> for Key {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<Arc<str>> for Key {
    fn from(text: Arc<str>) -> Self {
        Self(text)
    }
}

impl From<&Key> for Key {
    fn from(key: &Key) -> Self {
        key.clone()
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.as_str().to_owned()
    }
}

macro_rules! compares_with {
    ($($other:ty => $text:expr),* $(,)?) => {$(
        impl PartialEq<$other> for Key {
            fn eq(&self, other: &$other) -> bool {
                let text: for<'a> fn(&'a $other) -> &'a str = $text;
                &*self.0 == text(other)
            }
        }
        impl PartialEq<Key> for $other {
            fn eq(&self, key: &Key) -> bool {
                key == self
            }
        }
    )*};
}

compares_with! {
    str => |text| text,
    &str => |text| text,
    String => |text| text,
    &Key => |key| key,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// Makes the key of a pure call. Its task stores only the name and the digest until the key is requested.
pub(crate) fn derived(name: &str, digest: u128) -> Key {
    format!("{name}-{digest:032x}").into()
}

/// Returns the digest in a key that has the form of a pure call's key.
pub(crate) fn digest_in(key: &str) -> Option<u128> {
    let (rest, digits) = key.as_bytes().split_last_chunk::<32>()?;
    let is_digit = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if rest.last() != Some(&b'-') || !digits.iter().all(is_digit) {
        return None;
    }
    u128::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Returns the name of a task for the type name of its function: the last segments of the path.
///
/// `tour::inc` is `inc`, `app::load::<u8>` is `load`, and a closure written in `app::main` is
/// `main::closure`.
pub(crate) fn short_name(type_name: &str) -> String {
    // The name of a wrapped function is that of the function itself.
    if type_name.starts_with(concat!(env!("CARGO_CRATE_NAME"), "::")) {
        if let Some((_, inner)) = type_name.split_once('<') {
            return short_name(inner.strip_suffix('>').unwrap_or(inner));
        }
    }
    let plain = match type_name.find('<') {
        Some(at) if at > 0 => type_name[..at].trim_end_matches("::"),
        _ => type_name,
    };
    let mut words = plain.rsplit("::");
    let last = words.next().unwrap_or(plain);
    if last.starts_with("{{") {
        let within = words.find(|word| !word.starts_with("{{")).unwrap_or("task");
        return format!("{within}::closure");
    }
    last.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_of_texts_and_become_texts() {
        let text = String::from("k");
        for key in
            [Key::from("k"), Key::from(&text), Key::from(text.clone()), Key::from(&Key::from("k"))]
        {
            assert_eq!(String::from(key), text);
        }
    }

    #[test]
    fn a_digest_is_found_in_its_key() {
        for digest in [0, 1, 0xfedc_ba98_7654_3210, u128::MAX] {
            assert_eq!(digest_in(&derived("f", digest)), Some(digest));
            assert_eq!(digest_in(&derived("", digest)), Some(digest));
        }
        let digits = "0123456789abcdef0123456789abcdef";
        assert!(digest_in(&format!("é-{digits}")).is_some());
        for other in [
            "",
            "-",
            digits,
            "f-123",
            &format!("f-{}", digits.to_uppercase()),
            &format!("f_{digits}"),
        ] {
            assert_eq!(digest_in(other), None, "{other}");
        }
    }

    #[test]
    fn names_are_the_last_segments_of_the_path() {
        assert_eq!(short_name("tour::inc"), "inc");
        assert_eq!(short_name("inc"), "inc");
        assert_eq!(short_name("app::load<alloc::vec::Vec<u8>>"), "load");
        assert_eq!(short_name("app::main::{{closure}}"), "main::closure");
        assert_eq!(short_name("app::main::{{closure}}::{{closure}}"), "main::closure");
        assert_eq!(short_name("<u8 as app::Job>::run"), "run");
    }
}
