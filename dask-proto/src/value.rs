//! What a message says.

use bytes::Bytes;

use super::serialized::{Pickled, Serialized};
use super::{WireError, WireKey};

/// A value in a message: what msgpack has, and what Dask's maps with a special meaning stand for.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    #[default]
    Nil,
    Bool(bool),
    Int(i64),
    /// Only what is too much for an [`Int`](Self::Int).
    Uint(u64),
    Float(f64),
    Str(String),
    Bin(Bytes),
    /// A list or a tuple, which can't be told apart.
    Array(Vec<Value>),
    Map(Map),
    Set(Vec<Value>),
    /// A member of an enumeration of Dask's.
    Enum(Box<Member>),
    /// An object that the sender hasn't unpacked either.
    Serialized(Box<Serialized>),
    /// An object that every receiver unpacks.
    Pickled(Box<Pickled>),
    /// An extension of msgpack, which Dask doesn't use.
    Ext(i8, Bytes),
}

/// A member of an enumeration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Of the member.
    pub name: String,
    /// Where the class is.
    pub module: String,
    /// Of the class.
    pub class: String,
}

/// A map, whose keys may be anything. One that appears twice counts the last time, as it does in Python.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map(pub Vec<(Value, Value)>);

impl Map {
    /// What a name stands for.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().rev().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value)
    }

    /// The same, taken out; `nil` where there is none.
    pub fn take(&mut self, name: &str) -> Value {
        let entry = self.0.iter_mut().rev().find(|(key, _)| key.as_str() == Some(name));
        entry.map(|(_, value)| std::mem::take(value)).unwrap_or_default()
    }

    /// The text that a name stands for.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// The names and what they stand for, without the keys that are no text.
    pub fn named(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().filter_map(|(key, value)| Some((key.as_str()?, value)))
    }

    /// What a name must stand for.
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

    /// Text, or none.
    pub(crate) fn take_text(&mut self, name: &str) -> Option<String> {
        self.take(name).string()
    }
}

fn not(name: &str, kind: &str) -> WireError {
    WireError::malformed(format!("`{name}` isn't {kind}"))
}

impl Value {
    /// The text it is.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            Self::Enum(member) => Some(&member.name),
            _ => None,
        }
    }

    /// The text it is.
    pub fn string(self) -> Option<String> {
        match self {
            Self::Str(text) => Some(text),
            Self::Enum(member) => Some(member.name),
            _ => None,
        }
    }

    /// The whole number it is.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The number it is.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(*number as f64),
            Self::Uint(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// The map it is.
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The items of the list or set it is.
    pub fn items(&self) -> Option<&[Value]> {
        match self {
            Self::Array(items) | Self::Set(items) => Some(items),
            _ => None,
        }
    }

    /// The name of a task it is.
    pub fn key(&self) -> Result<WireKey, WireError> {
        WireKey::try_from(self)
    }

    /// The names of tasks it lists.
    pub fn keys(&self) -> Result<Vec<WireKey>, WireError> {
        let items = self.items().ok_or_else(|| WireError::malformed("keys that are no list"))?;
        items.iter().map(Self::key).collect()
    }

    /// The texts it lists; what isn't text is left out.
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
