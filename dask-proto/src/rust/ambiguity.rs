//! The search for `Some(None)` and `Some(())` in a value, which msgpack can't distinguish from `None`.
//!
//! In msgpack `Some` is encoded as its content, and `None` and `()` as nil. Such a value would be decoded as another
//! one.

use std::fmt;

use serde::Serialize;
use serde::ser::{
    self, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// The marker of nil; the byte may also be a part of something else.
const NIL: u8 = 0xc0;

/// Returns whether a value, whose encoding is `msgpack`, contains `Some(None)` or `Some(())`.
pub(super) fn has_empty_some<T: Serialize + ?Sized>(value: &T, msgpack: &[u8]) -> bool {
    // Most encodings have no nil, and searching bytes is much faster than traversing the value.
    msgpack.contains(&NIL) && matches!(Search::within(value), Err(Stop::Found))
}

/// A serializer that writes nothing, and fails at the first `Some(None)` or `Some(())`.
#[derive(Clone, Copy)]
struct Search {
    in_some: bool,
}

/// Why the search ends early.
#[derive(Debug)]
enum Stop {
    Found,
    /// The value's own `Serialize` failed.
    Refused,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Found => "a `Some` that contains nothing",
            Self::Refused => "the value can't be serialized",
        })
    }
}

impl std::error::Error for Stop {}

impl ser::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Refused
    }
}

impl Search {
    fn new() -> Self {
        Self { in_some: false }
    }

    fn nothing(self) -> Result<(), Stop> {
        if self.in_some { Err(Stop::Found) } else { Ok(()) }
    }

    /// Searches a value that isn't the direct content of a `Some`.
    fn within<T: Serialize + ?Sized>(value: &T) -> Result<(), Stop> {
        value.serialize(Self::new())
    }
}

/// Types that are never encoded as nil.
macro_rules! never_nil {
    ($($name:ident $type:ty;)*) => {$(
        fn $name(self, _: $type) -> Result<(), Stop> {
            Ok(())
        }
    )*};
}

impl Serializer for Search {
    type Ok = ();
    type Error = Stop;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    never_nil! {
        serialize_bool bool;
        serialize_i8 i8;
        serialize_i16 i16;
        serialize_i32 i32;
        serialize_i64 i64;
        serialize_i128 i128;
        serialize_u8 u8;
        serialize_u16 u16;
        serialize_u32 u32;
        serialize_u64 u64;
        serialize_u128 u128;
        serialize_f32 f32;
        serialize_f64 f64;
        serialize_char char;
        serialize_str &str;
        serialize_bytes &[u8];
    }

    fn serialize_none(self) -> Result<(), Stop> {
        self.nothing()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Stop> {
        value.serialize(Self { in_some: true })
    }

    fn serialize_unit(self) -> Result<(), Stop> {
        self.nothing()
    }

    /// It's encoded as an empty list.
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Stop> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Stop> {
        Ok(())
    }

    /// It's encoded as its content.
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Stop> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Stop> {
        Self::within(value)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Stop> {
        Ok(Self::new())
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Stop> {
        Ok(Self::new())
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Stop> {
        Ok(Self::new())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Stop> {
        Ok(Self::new())
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Stop> {
        Ok(Self::new())
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Stop> {
        Ok(Self::new())
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Stop> {
        Ok(Self::new())
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, _: &T) -> Result<(), Stop> {
        Ok(())
    }

    /// As rmp-serde's serializer says.
    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Searches the parts of a compound value.
macro_rules! parts {
    ($($many:ident $part:ident $(($name:ty))?;)*) => {$(
        impl $many for Search {
            type Ok = ();
            type Error = Stop;

            fn $part<T: Serialize + ?Sized>(
                &mut self,
                $(_: $name,)?
                value: &T,
            ) -> Result<(), Stop> {
                Self::within(value)
            }

            fn end(self) -> Result<(), Stop> {
                Ok(())
            }
        }
    )*};
}

parts! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
    SerializeStruct serialize_field (&'static str);
    SerializeStructVariant serialize_field (&'static str);
}

impl SerializeMap for Search {
    type Ok = ();
    type Error = Stop;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Stop> {
        Self::within(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        Self::within(value)
    }

    fn end(self) -> Result<(), Stop> {
        Ok(())
    }
}
