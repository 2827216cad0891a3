//! What goes wrong with values and calls.

use std::any::type_name;
use std::fmt;

/// Why a call gives no value, other than by a panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What kind of thing it is.
    pub kind: ProblemKind,
    /// What it is, for people.
    pub text: String,
}

/// What kind of [`Problem`] it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// The function returned an `Err`.
    Failed,
    /// What it was to be called with doesn't fit.
    Mismatch,
    /// Nobody knows it.
    Unregistered,
    /// What it returned can't be sent.
    Unserializable,
}

impl Problem {
    pub(crate) fn new(kind: ProblemKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    pub(super) fn mismatch(text: impl Into<String>) -> Self {
        Self::new(ProblemKind::Mismatch, text)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Problem {}

/// What something is instead of a value of the type that is wanted: "a `String`, not a `u64`". It comes after
/// "`x-1` holds" or "argument 2 is".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit(String);

impl Misfit {
    /// It's another type of Rust's.
    pub(super) fn other<T>(found: &str) -> Self {
        let wanted = type_name::<T>();
        let (short_found, short_wanted) = (short(found), short(wanted));
        if short_found == short_wanted {
            Self(format!("a `{found}`, not a `{wanted}`"))
        } else {
            Self(format!("a `{short_found}`, not a `{short_wanted}`"))
        }
    }

    /// It can't be read.
    pub(super) fn because<T>(why: impl fmt::Display) -> Self {
        Self(format!("no `{}`: {why}", short(type_name::<T>())))
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misfit {}

/// The name of a type without the modules it's in.
pub(crate) fn short(name: &str) -> String {
    let mut short = String::with_capacity(name.len());
    let mut segment = 0;
    let mut left = name;
    while let Some(next) = left.chars().next() {
        if let Some(rest) = left.strip_prefix("::") {
            short.truncate(segment);
            left = rest;
            continue;
        }
        short.push(next);
        left = &left[next.len_utf8()..];
        if !(next.is_alphanumeric() || next == '_') {
            segment = short.len();
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shortened() {
        assert_eq!(short("u64"), "u64");
        assert_eq!(short("alloc::string::String"), "String");
        assert_eq!(
            short(
                "std::collections::hash::map::HashMap<alloc::string::String, [core::option::Option<u8>; 3]>"
            ),
            "HashMap<String, [Option<u8>; 3]>"
        );
        assert_eq!(short("(alloc::vec::Vec<()>, a_b::Cé)"), "(Vec<()>, Cé)");
    }

    #[test]
    fn a_misfit_names_both_types() {
        let misfit = Misfit::other::<u64>("alloc::string::String");
        assert_eq!(misfit.to_string(), "a `String`, not a `u64`");
        let same = Misfit::other::<String>("mine::String");
        assert_eq!(same.to_string(), "a `mine::String`, not a `alloc::string::String`");
    }
}
