//! How what is told is written by serde: structs field by field, times as seconds.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::{Key, Status};

/// Writes a struct's fields under their names.
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

/// A time in seconds, with six digits behind the point.
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

/// As its text, `running`.
impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
