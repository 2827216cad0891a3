//! Whether a value has a `Some` in it that holds nothing: `Some(None)` or `Some(())`.
//!
//! In msgpack a `Some` is what is in it, and nothing is nil, as is `None`. So such a value would arrive as another one.

use std::fmt;

use serde::Serialize;
use serde::ser::{
    self, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// The byte that is nil, if it isn't within something else.
const NIL: u8 = 0xc0;

/// Whether there's one in the value, which was written like this.
pub(super) fn is_within_some<T: Serialize + ?Sized>(value: &T, msgpack: &[u8]) -> bool {
    msgpack.contains(&NIL) && matches!(Look::within(value), Err(Stop::Found))
}

/// Looks at a value, and writes nothing.
#[derive(Clone, Copy)]
struct Look {
    in_some: bool,
}

/// Why it stops looking.
#[derive(Debug)]
enum Stop {
    Found,
    /// The value doesn't want to be written, and wasn't.
    Refused,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Found => "there's a `Some` of nothing",
            Self::Refused => "it can't be written",
        })
    }
}

impl std::error::Error for Stop {}

impl ser::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Refused
    }
}

impl Look {
    fn new() -> Self {
        Self { in_some: false }
    }

    fn nothing(self) -> Result<(), Stop> {
        if self.in_some { Err(Stop::Found) } else { Ok(()) }
    }

    /// Looks at what is within something that isn't nothing.
    fn within<T: Serialize + ?Sized>(value: &T) -> Result<(), Stop> {
        value.serialize(Self::new())
    }
}

/// What is something, whatever it is.
macro_rules! something {
    ($($name:ident $type:ty;)*) => {$(
        fn $name(self, _: $type) -> Result<(), Stop> {
            Ok(())
        }
    )*};
}

impl Serializer for Look {
    type Ok = ();
    type Error = Stop;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    something! {
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

    /// It's written as an empty list.
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Stop> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Stop> {
        Ok(())
    }

    /// It's written as what is in it.
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

    /// As the one that writes says.
    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Looks at one part of many.
macro_rules! parts {
    ($($many:ident $part:ident $(($name:ty))?;)*) => {$(
        impl $many for Look {
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

impl SerializeMap for Look {
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
