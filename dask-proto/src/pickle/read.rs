//! The reader of pickles.

use std::collections::HashMap;

use bytes::{Buf, Bytes};

use super::write::i128_of;
use crate::WireError;

/// The most objects of a pickle.
const OBJECTS: usize = 1 << 20;
/// The longest name of a class or module in bytes.
const NAME: usize = 1000;

/// The number of an object in a pickle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeId(u32);

/// An object in a pickle. It refers to other objects by number, since an object may occur several times, and in itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// `None`.
    None,
    /// A `bool`.
    Bool(bool),
    /// An `int` of up to 16 bytes.
    Int(i128),
    /// A longer `int`: its length in bytes.
    LongInt(usize),
    /// A `float`.
    Float(f64),
    /// A `str`. Surrogates are replaced.
    Str(String),
    /// `bytes` or a `bytearray`.
    Bytes(Bytes),
    /// A `list`.
    List(Vec<NodeId>),
    /// A `tuple`.
    Tuple(Vec<NodeId>),
    /// A `set` or a `frozenset`.
    Set(Vec<NodeId>),
    /// A `dict`.
    Dict(Vec<(NodeId, NodeId)>),
    /// A class or function, by name.
    Class {
        /// The module.
        module: String,
        /// The name in the module.
        name: String,
    },
    /// The result of a call, which isn't made.
    Call {
        /// The class or function.
        of: NodeId,
        /// The positional arguments, a tuple.
        args: NodeId,
        /// The keyword arguments, a dict.
        named: Option<NodeId>,
        /// What is then added to the result: its state, items, or keys and values.
        then: Vec<NodeId>,
    },
    /// An out-of-band buffer, or an object that only the writer knows.
    External,
}

/// The objects of a pickle.
#[derive(Clone, Debug)]
pub struct Objects {
    nodes: Vec<Node>,
    root: NodeId,
}

impl Objects {
    /// Returns the number of the object that was pickled.
    pub fn root(&self) -> NodeId {
        self.root
    }

    /// Returns an object.
    pub fn get(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// Returns the items of a list or tuple, none of other objects.
    pub fn items(&self, id: NodeId) -> &[NodeId] {
        match self.get(id) {
            Node::List(items) | Node::Tuple(items) => items,
            _ => &[],
        }
    }

    /// Returns the value of a text key in a dict.
    pub fn entry(&self, id: NodeId, name: &str) -> Option<NodeId> {
        let Node::Dict(entries) = self.get(id) else { return None };
        let is_it = |key: &NodeId| matches!(self.get(*key), Node::Str(text) if text == name);
        entries.iter().rev().find(|(key, _)| is_it(key)).map(|(_, value)| *value)
    }
}

/// Reads a pickle of protocol 2 or later.
///
/// # Errors
///
/// If the pickle is malformed or truncated, has an opcode of protocol 0 or 1 only, or more than 2²⁰ objects.
pub fn read(pickle: &Bytes) -> Result<Objects, WireError> {
    let mut reader =
        Reader { left: pickle.clone(), nodes: Vec::new(), stack: Vec::new(), memo: HashMap::new() };
    loop {
        if let Some(root) = reader.step()? {
            return Ok(Objects { nodes: reader.nodes, root });
        }
    }
}

struct Reader {
    left: Bytes,
    nodes: Vec<Node>,
    /// `None` is a mark.
    stack: Vec<Option<NodeId>>,
    memo: HashMap<u32, NodeId>,
}

impl Reader {
    /// Reads one opcode. The last one returns the pickled object.
    fn step(&mut self) -> Result<Option<NodeId>, WireError> {
        let opcode = self.byte()?;
        match opcode {
            b'.' => return self.pop().map(Some),
            0x80 => drop(self.take(1)?), // protocol
            0x95 => drop(self.take(8)?), // frame
            b'N' => self.push(Node::None)?,
            0x88 => self.push(Node::Bool(true))?,
            0x89 => self.push(Node::Bool(false))?,
            b'J' => {
                let number = i128_of(&self.take(4)?);
                self.push(Node::Int(number))?;
            }
            b'K' => self.unsigned(1)?,
            b'M' => self.unsigned(2)?,
            0x8a => self.long(1)?,
            0x8b => self.long(4)?,
            b'G' => {
                let number = self.take(8)?.get_f64();
                self.push(Node::Float(number))?;
            }
            0x8c => self.text(1)?,
            b'X' => self.text(4)?,
            0x8d => self.text(8)?,
            b'C' | b'U' => self.bytes(1)?,
            b'B' | b'T' => self.bytes(4)?,
            0x8e | 0x96 => self.bytes(8)?,
            0x97 => self.push(Node::External)?, // next buffer
            0x98 => {}                          // the buffer is read-only
            b'Q' => {
                self.pop()?; // persistent id
                self.push(Node::External)?;
            }
            b'P' => {
                self.line()?;
                self.push(Node::External)?;
            }
            b'(' => self.push_entry(None)?,
            b'0' => drop(self.stack.pop().ok_or_else(missing)?),
            b'1' => drop(self.since_mark()?),
            b'2' => {
                let top = self.top()?;
                self.push_entry(Some(top))?;
            }
            b')' => self.push(Node::Tuple(Vec::new()))?,
            b't' => {
                let items = self.since_mark()?;
                self.push(Node::Tuple(items))?;
            }
            0x85..=0x87 => {
                let mut items = vec![NodeId(0); usize::from(opcode - 0x84)];
                for item in items.iter_mut().rev() {
                    *item = self.pop()?;
                }
                self.push(Node::Tuple(items))?;
            }
            b']' => self.push(Node::List(Vec::new()))?,
            b'l' => {
                let items = self.since_mark()?;
                self.push(Node::List(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.since_mark()?;
                self.extend(items)?;
            }
            b'}' => self.push(Node::Dict(Vec::new()))?,
            b'd' => {
                let items = self.since_mark()?;
                self.push(Node::Dict(pairs(&items)?))?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.extend(vec![key, value])?;
            }
            b'u' => {
                let items = self.since_mark()?;
                pairs(&items)?;
                self.extend(items)?;
            }
            0x8f => self.push(Node::Set(Vec::new()))?,
            0x91 => {
                let items = self.since_mark()?;
                self.push(Node::Set(items))?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Node::Class { module, name })?;
            }
            0x93 => {
                let (name, module) = (self.pop_text()?, self.pop_text()?);
                self.push(Node::Class { module, name })?;
            }
            0x82 => self.registered(1)?,
            0x83 => self.registered(2)?,
            0x84 => self.registered(4)?,
            b'R' | 0x81 => {
                let (args, of) = (self.pop()?, self.pop()?);
                self.push(Node::Call { of, args, named: None, then: Vec::new() })?;
            }
            0x92 => {
                let (named, args, of) = (self.pop()?, self.pop()?, self.pop()?);
                self.push(Node::Call { of, args, named: Some(named), then: Vec::new() })?;
            }
            b'o' => {
                let mut items = self.since_mark()?;
                if items.is_empty() {
                    return Err(missing());
                }
                let of = items.remove(0);
                let args = self.node(Node::Tuple(items))?;
                self.push(Node::Call { of, args, named: None, then: Vec::new() })?;
            }
            b'b' => {
                let state = self.pop()?;
                self.extend(vec![state])?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            b'q' => {
                let at = self.byte()?;
                self.remember(at.into())?;
            }
            b'r' => {
                let at = self.take(4)?.get_u32_le();
                self.remember(at)?;
            }
            b'h' => {
                let at = self.byte()?;
                self.recall(at.into())?;
            }
            b'j' => {
                let at = self.take(4)?.get_u32_le();
                self.recall(at)?;
            }
            other => {
                return Err(WireError::malformed(format!("a pickle with opcode {other:#04x}")));
            }
        }
        Ok(None)
    }

    fn byte(&mut self) -> Result<u8, WireError> {
        Ok(self.take(1)?[0])
    }

    fn take(&mut self, len: usize) -> Result<Bytes, WireError> {
        if len > self.left.len() { Err(ended()) } else { Ok(self.left.split_to(len)) }
    }

    /// Takes a length of `width` bytes, and as many bytes.
    fn sized(&mut self, width: usize) -> Result<Bytes, WireError> {
        let len = self.take(width)?.get_uint_le(width);
        self.take(usize::try_from(len).map_err(|_| ended())?)
    }

    fn line(&mut self) -> Result<String, WireError> {
        let end = self.left.iter().position(|byte| *byte == b'\n').ok_or_else(ended)?;
        let line = self.take(end)?;
        self.take(1)?;
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    fn unsigned(&mut self, width: usize) -> Result<(), WireError> {
        let number = self.take(width)?.get_uint_le(width);
        self.push(Node::Int(number.into()))
    }

    fn long(&mut self, width: usize) -> Result<(), WireError> {
        let number = self.sized(width)?;
        self.push(if number.len() > 16 {
            Node::LongInt(number.len())
        } else {
            Node::Int(i128_of(&number))
        })
    }

    fn text(&mut self, width: usize) -> Result<(), WireError> {
        // Python's text may have surrogates, which aren't UTF-8.
        let text = String::from_utf8_lossy(&self.sized(width)?).into_owned();
        self.push(Node::Str(text))
    }

    fn bytes(&mut self, width: usize) -> Result<(), WireError> {
        let bytes = self.sized(width)?;
        self.push(Node::Bytes(bytes))
    }

    /// Reads a class of the `copyreg` extension registry.
    fn registered(&mut self, width: usize) -> Result<(), WireError> {
        let number = self.take(width)?.get_uint_le(width);
        self.push(Node::Class { module: "copyreg".to_owned(), name: format!("extension {number}") })
    }

    fn node(&mut self, node: Node) -> Result<NodeId, WireError> {
        WireError::check("objects", self.nodes.len() as u64 + 1, OBJECTS as u64)?;
        self.nodes.push(node);
        Ok(NodeId(self.nodes.len() as u32 - 1))
    }

    fn push(&mut self, node: Node) -> Result<(), WireError> {
        let id = self.node(node)?;
        self.push_entry(Some(id))
    }

    fn push_entry(&mut self, item: Option<NodeId>) -> Result<(), WireError> {
        WireError::check("objects", self.stack.len() as u64 + 1, OBJECTS as u64)?;
        self.stack.push(item);
        Ok(())
    }

    fn top(&self) -> Result<NodeId, WireError> {
        self.stack.last().copied().flatten().ok_or_else(missing)
    }

    fn pop(&mut self) -> Result<NodeId, WireError> {
        self.stack.pop().flatten().ok_or_else(missing)
    }

    fn pop_text(&mut self) -> Result<String, WireError> {
        let id = self.pop()?;
        match &self.nodes[id.0 as usize] {
            // A remembered name may be used any number of times, with a copy each.
            Node::Str(text) if text.len() <= NAME => Ok(text.clone()),
            _ => Err(WireError::malformed("a pickle with a class that has no proper name")),
        }
    }

    fn since_mark(&mut self) -> Result<Vec<NodeId>, WireError> {
        let mark = self.stack.iter().rposition(Option::is_none).ok_or_else(missing)?;
        let items = self.stack.drain(mark..).skip(1).flatten().collect();
        Ok(items)
    }

    /// Adds items to the object on top of the stack.
    fn extend(&mut self, items: Vec<NodeId>) -> Result<(), WireError> {
        let top = self.top()?;
        match &mut self.nodes[top.0 as usize] {
            Node::List(to) | Node::Set(to) | Node::Call { then: to, .. } => to.extend(items),
            Node::Dict(to) => to.extend(pairs(&items)?),
            _ => return Err(WireError::malformed("a pickle that adds to what isn't a container")),
        }
        Ok(())
    }

    fn remember(&mut self, at: u32) -> Result<(), WireError> {
        let top = self.top()?;
        WireError::check("objects", self.memo.len() as u64 + 1, OBJECTS as u64)?;
        self.memo.insert(at, top);
        Ok(())
    }

    fn recall(&mut self, at: u32) -> Result<(), WireError> {
        let id = self.memo.get(&at).copied().ok_or_else(missing)?;
        self.push_entry(Some(id))
    }
}

fn pairs(items: &[NodeId]) -> Result<Vec<(NodeId, NodeId)>, WireError> {
    if items.len() % 2 != 0 {
        return Err(missing());
    }
    Ok(items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

fn missing() -> WireError {
    WireError::malformed("a pickle that uses an object it doesn't have")
}

fn ended() -> WireError {
    WireError::malformed("a pickle that ends too early")
}
