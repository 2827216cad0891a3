//! Messages as lists of frames, and these as bytes.
//!
//! Numbers are 64 bits, little-endian:
//!
//! ```text
//! A                  how many bytes follow in the first block
//! N, length × N      of the frames                             |
//! frame, frame, …    as many as the sender liked to put here   |  A bytes
//! frame, frame, …    the others
//! ```

use std::collections::VecDeque;
use std::io::IoSlice;
use std::vec;

use bytes::{Buf, Bytes, BytesMut};

use crate::WireError;

/// How much is read at once where it isn't known how much will come. Longer frames get memory of their own;
/// shorter ones are copied out, so that keeping one doesn't keep what came with it.
const CHUNK: usize = 64 * 1024;
const WORD: usize = 8;
/// How many pieces a vectored write gets.
const AT_ONCE: usize = 256;

/// How much the other side may make us hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The bytes of one message.
    pub message: u64,
    /// The frames of one message.
    pub frames: u64,
    /// The bytes of its first frame, which takes much more memory once it's read.
    pub head: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message: 1 << 40, frames: 1 << 24, head: 1 << 30 }
    }
}

/// Makes messages of bytes that come in pieces of any size.
///
/// ```text
/// loop {
///     while let Some(frames) = reader.message()? { … }
///     let n = socket.read(reader.space())?;
///     reader.filled(n);
/// }
/// ```
///
/// No more memory is taken than twice what has arrived, and a little.
#[derive(Debug)]
pub struct Reader {
    limits: Limits,
    /// Has been written to all over; what has arrived and isn't taken yet is the first `len` bytes.
    buffer: BytesMut,
    len: usize,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The length of the first block, and the number of frames.
    Begin,
    Lengths {
        block: u64,
        count: usize,
    },
    Frames {
        taken: Vec<Bytes>,
        lengths: vec::IntoIter<usize>,
        next: usize,
    },
}

impl Reader {
    /// Nothing has come yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, buffer: BytesMut::new(), len: 0, stage: Stage::Begin }
    }

    /// Where the next bytes from the socket go; never empty. Say afterwards how many were [`filled`](Self::filled).
    pub fn space(&mut self) -> &mut [u8] {
        let wanted = self.wanted();
        let room = match wanted.checked_sub(self.len) {
            // As much again as has come, so that a forged length costs nothing; and not beyond the frame's
            // end, so that its memory is its own.
            Some(missing) if wanted > CHUNK && missing > 0 => missing.min(self.len.max(CHUNK)),
            _ => CHUNK,
        };
        let end = self.len + room;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        &mut self.buffer[self.len..end]
    }

    /// So many bytes are now in the [`space`](Self::space).
    pub fn filled(&mut self, bytes: usize) {
        self.len += bytes;
        assert!(self.len <= self.buffer.len(), "more than there was space for");
    }

    /// The same for bytes that are elsewhere.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = self.space();
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            self.filled(count);
            bytes = &bytes[count..];
        }
    }

    /// Whether the other side may go now without cutting a message in two.
    pub fn is_between_messages(&self) -> bool {
        self.len == 0 && matches!(self.stage, Stage::Begin)
    }

    /// The frames of the next message, of which there is at least one, if they are all there.
    pub fn message(&mut self) -> Result<Option<Vec<Bytes>>, WireError> {
        while self.wanted() <= self.len {
            match &mut self.stage {
                Stage::Begin => {
                    let mut begin = self.take(2 * WORD);
                    let (block, count) = (begin.get_u64_le(), begin.get_u64_le());
                    self.stage = self.begin(block, count)?;
                }
                Stage::Lengths { block, count } => {
                    let (block, count) = (*block, *count);
                    let lengths = self.take(count * WORD);
                    self.stage = self.lengths(block, lengths)?;
                }
                Stage::Frames { .. } => {
                    let frame = self.take(self.wanted());
                    let Stage::Frames { taken, lengths, next } = &mut self.stage else { continue };
                    let is_head = taken.is_empty();
                    if frame.len() > CHUNK && self.len == 0 {
                        // What is left of the frame's memory would keep all of it.
                        self.buffer = BytesMut::new();
                    }
                    let frame = if frame.len() > CHUNK || is_head {
                        frame.freeze()
                    } else {
                        Bytes::copy_from_slice(&frame)
                    };
                    taken.push(frame);
                    match lengths.next() {
                        Some(length) => *next = length,
                        None => {
                            let taken = std::mem::take(taken);
                            self.stage = Stage::Begin;
                            return Ok(Some(taken));
                        }
                    }
                }
            }
        }
        Ok(None)
    }

    /// How many bytes the next step takes.
    fn wanted(&self) -> usize {
        match &self.stage {
            Stage::Begin => 2 * WORD,
            Stage::Lengths { count, .. } => count * WORD,
            Stage::Frames { next, .. } => *next,
        }
    }

    fn take(&mut self, bytes: usize) -> BytesMut {
        self.len -= bytes;
        self.buffer.split_to(bytes)
    }

    fn begin(&self, block: u64, count: u64) -> Result<Stage, WireError> {
        WireError::check("bytes", block, self.limits.message)?;
        WireError::check("frames", count, self.limits.frames)?;
        if count == 0 {
            return Err(WireError::malformed("a message without frames"));
        }
        if count.saturating_mul(8).saturating_add(8) > block {
            return Err(WireError::malformed(
                "the lengths of frames are more than the first block",
            ));
        }
        let count = count.try_into().map_err(|_| WireError::malformed("too many frames"))?;
        Ok(Stage::Lengths { block, count })
    }

    fn lengths(&self, block: u64, mut words: BytesMut) -> Result<Stage, WireError> {
        let mut lengths = Vec::with_capacity(words.len() / WORD);
        let (mut total, mut ends_with_block) = ((words.len() + WORD) as u64, false);
        ends_with_block |= total == block;
        while words.has_remaining() {
            let length = words.get_u64_le();
            if lengths.is_empty() {
                WireError::check("bytes of msgpack", length, self.limits.head)?;
            }
            total = total.saturating_add(length);
            ends_with_block |= total == block;
            WireError::check("bytes", total, self.limits.message)?;
            lengths.push(length.try_into().map_err(|_| WireError::malformed("a long frame"))?);
        }
        if !ends_with_block {
            return Err(WireError::malformed("the first block ends within a frame"));
        }
        let mut lengths = lengths.into_iter();
        let next = lengths.next().unwrap_or(0);
        Ok(Stage::Frames { taken: Vec::new(), lengths, next })
    }
}

/// A message on its way out. It's a [`Buf`]: write its [`slices`](Self::slices), all at once if the socket
/// can, and [`advance`](Buf::advance). No frame is copied.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pieces: VecDeque<Bytes>,
    left: usize,
}

impl Outgoing {
    /// A message of these frames.
    pub fn new(frames: impl IntoIterator<Item = Bytes>) -> Self {
        let mut pieces: VecDeque<Bytes> = frames.into_iter().collect();
        let frames: usize = pieces.iter().map(Bytes::len).sum();
        let block = WORD + WORD * pieces.len() + frames;
        let mut prelude = Vec::with_capacity(2 * WORD + WORD * pieces.len());
        let words = [block, pieces.len()].into_iter().chain(pieces.iter().map(Bytes::len));
        words.for_each(|word| prelude.extend_from_slice(&(word as u64).to_le_bytes()));
        pieces.push_front(prelude.into());
        pieces.retain(|piece| !piece.is_empty());
        Self { pieces, left: block + WORD }
    }

    /// The first pieces of what is left of it, for a vectored write.
    pub fn slices(&self) -> Vec<IoSlice<'_>> {
        self.pieces.iter().take(AT_ONCE).map(|piece| IoSlice::new(piece)).collect()
    }

    /// What is left of it, in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        self.pieces.iter().flatten().copied().collect()
    }
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.left
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn advance(&mut self, mut bytes: usize) {
        assert!(bytes <= self.left, "more than is left");
        self.left -= bytes;
        while let Some(first) = self.pieces.front_mut() {
            if bytes < first.len() {
                first.advance(bytes);
                return;
            }
            bytes -= first.len();
            self.pieces.pop_front();
        }
    }
}
