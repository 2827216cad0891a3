//! Errors of values and arguments.

use std::any::type_name;
use std::{error, fmt};

/// Why a value can't be encoded. The text names the type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodeError(String);

impl EncodeError {
    pub(super) fn new<T: ?Sized>(why: impl fmt::Display) -> Self {
        Self(format!("a `{}` can't be sent: {why}", short_type_name(type_name::<T>())))
    }
}

/// Why an object isn't a value of the expected type.
///
/// The text is a noun phrase, such as "a `String`, not a `u64`", for the end of a sentence: "`x-1` holds …", "argument
/// 2 is …".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError(String);

impl DecodeError {
    /// Reports a value of another Rust type.
    pub(super) fn other<T>(found: &str) -> Self {
        let wanted = type_name::<T>();
        let (short_found, short_wanted) = (short_type_name(found), short_type_name(wanted));
        if short_found == short_wanted {
            Self(format!("a `{found}`, not a `{wanted}`"))
        } else {
            Self(format!("a `{short_found}`, not a `{short_wanted}`"))
        }
    }

    /// Reports an object that can't be read as a `T`.
    pub(super) fn because<T>(why: impl fmt::Display) -> Self {
        Self(format!("no `{}`: {why}", short_type_name(type_name::<T>())))
    }
}

/// Why the arguments of a call can't be decoded. The text names the function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgumentError(pub(super) String);

macro_rules! errors {
    ($($error:ident)*) => {$(
        impl fmt::Display for $error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl error::Error for $error {}
    )*};
}

errors! { EncodeError DecodeError ArgumentError }

/// Returns the name of a type without its modules: `Vec<String>` for `alloc::vec::Vec<alloc::string::String>`.
pub fn short_type_name(name: &str) -> String {
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
        assert_eq!(short_type_name("u64"), "u64");
        assert_eq!(short_type_name("alloc::string::String"), "String");
        assert_eq!(
            short_type_name(
                "std::collections::hash::map::HashMap<alloc::string::String, [core::option::Option<u8>; 3]>"
            ),
            "HashMap<String, [Option<u8>; 3]>"
        );
        assert_eq!(short_type_name("(alloc::vec::Vec<()>, a_b::Cé)"), "(Vec<()>, Cé)");
    }

    #[test]
    fn a_mismatch_names_both_types() {
        let error = DecodeError::other::<u64>("alloc::string::String");
        assert_eq!(error.to_string(), "a `String`, not a `u64`");
        let same = DecodeError::other::<String>("mine::String");
        assert_eq!(same.to_string(), "a `mine::String`, not a `alloc::string::String`");
    }
}
