//! Serde output of the views: structs field by field, times in seconds.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::{Key, Status};

/// Implements `Serialize` for a struct, with these fields. Not derived, since that would make serde's macros a dependency
/// of every build.
macro_rules! serialize {
    ($type:ident, $this:ident: $($name:ident = $value:expr),* $(,)?) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeStruct;
                let $this = self;
                let count = [$(stringify!($name)),*].len();
                let mut fields = serializer.serialize_struct(stringify!($type), count)?;
                $(fields.serialize_field(stringify!($name), &$value)?;)*
                fields.end()
            }
        }
    };
}
pub(crate) use serialize;

/// A time that is written in seconds, with six decimals.
pub(crate) struct Seconds(pub(crate) Duration);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_micros() as f64 / 1e6)
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

/// The line that submitted a task, as `file:line`.
pub(crate) struct FileLine(pub(crate) &'static Location<'static>);

impl fmt::Display for FileLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.file(), self.0.line())
    }
}

impl Serialize for FileLine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Written as its text, such as `running`.
impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
