//! The values in a message.

use bytes::Bytes;

use crate::object::{Pickled, Serialized};
use crate::pack::{Pack, Packer, Pairs};
use crate::{WireError, WireKey};

/// A value in a message: msgpack's types, and those that Dask encodes as maps with a mark.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// `None`.
    #[default]
    Nil,
    /// A boolean.
    Bool(bool),
    /// An integer that fits an `i64`.
    Int(i64),
    /// An integer above `i64::MAX`.
    Uint(u64),
    /// A float.
    Float(f64),
    /// Text.
    Str(String),
    /// Bytes.
    Bin(Bytes),
    /// A list or a tuple; msgpack doesn't distinguish them.
    Array(Vec<Value>),
    /// A dict.
    Map(Map),
    /// A set or frozenset.
    Set(Vec<Value>),
    /// A member of a Python enumeration.
    Enum(Box<Member>),
    /// An object that only its consumer deserializes.
    Serialized(Box<Serialized>),
    /// An object that every receiver in Python unpickles.
    Pickled(Box<Pickled>),
    /// A msgpack extension type. Dask itself sends none.
    Ext(i8, Bytes),
}

/// A member of a Python enumeration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The name of the member.
    pub name: String,
    /// The module of the class.
    pub module: String,
    /// The name of the class.
    pub class: String,
}

/// A map, whose keys may be any values. Of equal keys the last one counts, as in Python.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map(pub Vec<(Value, Value)>);

impl Map {
    /// Returns the value of the key that is this text.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().rev().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value)
    }

    /// Replaces the value of the key that is this text by [`Value::Nil`], and returns it; `Nil` if there is no such
    /// key.
    pub fn take(&mut self, name: &str) -> Value {
        let entry = self.0.iter_mut().rev().find(|(key, _)| key.as_str() == Some(name));
        entry.map(|(_, value)| std::mem::take(value)).unwrap_or_default()
    }

    /// Returns the text that is the value of a key.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// Returns the entries whose keys are text.
    pub fn named(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().filter_map(|(key, value)| Some((key.as_str()?, value)))
    }

    /// Takes the value of a key that must be present.
    pub(crate) fn need(&mut self, name: &'static str) -> Result<Value, WireError> {
        match self.get(name) {
            Some(_) => Ok(self.take(name)),
            None => Err(WireError::malformed(format!("`{name}` is missing"))),
        }
    }

    pub(crate) fn need_key(&mut self, name: &'static str) -> Result<WireKey, WireError> {
        self.need(name)?.key()
    }

    pub(crate) fn need_keys(&mut self, name: &'static str) -> Result<Vec<WireKey>, WireError> {
        self.need(name)?.keys()
    }

    pub(crate) fn need_text(&mut self, name: &'static str) -> Result<String, WireError> {
        self.need(name)?.string().ok_or_else(|| not(name, "text"))
    }

    pub(crate) fn need_map(&mut self, name: &'static str) -> Result<Map, WireError> {
        match self.need(name)? {
            Value::Map(map) => Ok(map),
            _ => Err(not(name, "a map")),
        }
    }

    /// Takes the value of a key if it's text.
    pub(crate) fn take_text(&mut self, name: &str) -> Option<String> {
        self.take(name).string()
    }
}

fn not(name: &str, kind: &str) -> WireError {
    WireError::malformed(format!("`{name}` isn't {kind}"))
}

impl Value {
    /// Returns the text, or the name of the enumeration's member.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            Self::Enum(member) => Some(&member.name),
            _ => None,
        }
    }

    /// Returns the text, or the name of the enumeration's member.
    pub fn string(self) -> Option<String> {
        match self {
            Self::Str(text) => Some(text),
            Self::Enum(member) => Some(member.name),
            _ => None,
        }
    }

    /// Returns the number if it's an [`Int`](Self::Int).
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// Returns the number, rounded to a float.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(*number as f64),
            Self::Uint(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// Returns the map if it is one.
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Returns the items of a list, tuple or set.
    pub fn items(&self) -> Option<&[Value]> {
        match self {
            Self::Array(items) | Self::Set(items) => Some(items),
            _ => None,
        }
    }

    /// Returns the value as a task's key.
    ///
    /// # Errors
    ///
    /// If it's of a type that no key has.
    pub fn key(&self) -> Result<WireKey, WireError> {
        WireKey::try_from(self)
    }

    /// Returns the items as keys of tasks.
    ///
    /// # Errors
    ///
    /// If the value is no list or set, or one of its items can't be a key.
    pub fn keys(&self) -> Result<Vec<WireKey>, WireError> {
        let items = self.items().ok_or_else(|| WireError::malformed("keys that are no list"))?;
        items.iter().map(Self::key).collect()
    }

    /// Returns the items that are text; empty if the value has no items.
    pub fn texts(&self) -> Vec<String> {
        let items = self.items().unwrap_or_default();
        items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl TryFrom<&Value> for WireKey {
    type Error = WireError;

    fn try_from(value: &Value) -> Result<Self, WireError> {
        if !is_key(value) {
            return Err(WireError::malformed(
                "a key that is neither text, number, bytes nor tuple",
            ));
        }
        let mut packer = Packer::new();
        value.pack(&mut packer);
        Ok(Self::from_msgpack(packer.into_msgpack()))
    }
}

fn is_key(value: &Value) -> bool {
    match value {
        Value::Str(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::Float(_)
        | Value::Bin(_)
        | Value::Bool(_)
        | Value::Nil => true,
        Value::Array(items) => items.iter().all(is_key),
        _ => false,
    }
}

impl Pack for Value {
    fn pack(&self, packer: &mut Packer) {
        match self {
            Self::Nil => ().pack(packer),
            Self::Bool(it) => it.pack(packer),
            Self::Int(it) => it.pack(packer),
            Self::Uint(it) => it.pack(packer),
            Self::Float(it) => it.pack(packer),
            Self::Str(it) => packer.str(it),
            Self::Bin(it) => packer.bin(it),
            Self::Array(it) => it.pack(packer),
            Self::Map(it) => it.pack(packer),
            Self::Set(it) => packer.fields(&[("__Set__", &true), ("as-list", it)]),
            Self::Enum(it) => packer.fields(&[
                ("__Enum__", &true),
                ("name", &it.name),
                ("__module__", &it.module),
                ("__name__", &it.class),
            ]),
            Self::Serialized(it) => it.pack(packer),
            Self::Pickled(it) => it.pack(packer),
            Self::Ext(kind, bytes) => packer.ext(*kind, bytes),
        }
    }
}

impl Pack for Map {
    fn pack(&self, packer: &mut Packer) {
        Pairs(self.0.iter().map(|(key, value)| (key, value))).pack(packer);
    }
}
