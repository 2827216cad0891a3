//! The framing of messages: a message is a list of frames.
//!
//! On the connection, with numbers of 64 bits, little-endian:
//!
//! ```text
//! A                  the length of the rest of the first block
//! N, length × N      the number of frames, and their lengths   |
//! frame, frame, …    as many as the sender chooses             |  A bytes
//! frame, frame, …    the rest
//! ```

use std::collections::VecDeque;
use std::io::IoSlice;
use std::vec;

use bytes::{Buf, Bytes, BytesMut};

use crate::WireError;

/// The size of a read in bytes. Longer frames get memory of their own. Shorter ones are copied, so that keeping one
/// doesn't keep the bytes that arrived with it.
const CHUNK: usize = 64 * 1024;
const WORD: usize = 8;
/// The most pieces of one vectored write.
const AT_ONCE: usize = 256;

/// Limits on the size of a received message.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most bytes of a message.
    pub message: u64,
    /// The most frames of a message.
    pub frames: u64,
    /// The most bytes of the first frame, which takes many times as much memory as values.
    pub head: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message: 1 << 40, frames: 1 << 24, head: 1 << 30 }
    }
}

/// Reassembles messages from bytes that arrive in pieces of any size.
///
/// ```
/// use std::io::Read;
///
/// use ensue_dask_proto::frame::{Limits, Reader};
/// # use ensue_dask_proto::call;
/// # let sent = call::identity().to_vec();
/// # let mut socket = &sent[..];
///
/// let mut reader = Reader::new(Limits::default());
/// let frames = loop {
///     if let Some(frames) = reader.message()? {
///         break frames;
///     }
///     let count = socket.read(reader.space())?;
///     assert!(count > 0, "the connection was closed");
///     reader.filled(count);
/// };
/// assert_eq!(frames.len(), 1);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// It takes at most twice the memory of what has arrived, and 64 KiB, whatever lengths the other side announces.
#[derive(Debug)]
pub struct Reader {
    limits: Limits,
    /// The first `len` bytes have arrived and aren't consumed yet; all of it is initialized.
    buffer: BytesMut,
    len: usize,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Before the length of the first block and the number of frames.
    Begin,
    /// Before the lengths of the frames.
    Lengths { block: u64, count: usize },
    /// Before the next frame.
    Frames { taken: Vec<Bytes>, lengths: vec::IntoIter<usize>, next: usize },
}

impl Reader {
    /// Returns a reader for a new connection.
    pub fn new(limits: Limits) -> Self {
        Self { limits, buffer: BytesMut::new(), len: 0, stage: Stage::Begin }
    }

    /// Returns the buffer for the next bytes from the connection, which is never empty. Call [`filled`](Self::filled)
    /// after reading into it.
    pub fn space(&mut self) -> &mut [u8] {
        let wanted = self.wanted();
        let room = match wanted.checked_sub(self.len) {
            // As much again as has arrived, so that a forged length reserves nothing; and not beyond the frame's end,
            // so that the frame shares its memory with no other.
            Some(missing) if wanted > CHUNK && missing > 0 => missing.min(self.len.max(CHUNK)),
            _ => CHUNK,
        };
        let end = self.len + room;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        &mut self.buffer[self.len..end]
    }

    /// Records that the first `bytes` bytes of [`space`](Self::space) are filled.
    ///
    /// # Panics
    ///
    /// If `space` had fewer bytes.
    pub fn filled(&mut self, bytes: usize) {
        self.len += bytes;
        assert!(self.len <= self.buffer.len(), "{bytes} bytes are more than `space` had");
    }

    /// Copies bytes that have arrived into the reader.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = self.space();
            let count = space.len().min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            self.filled(count);
            bytes = &bytes[count..];
        }
    }

    /// Returns whether no message is incomplete, so that the end of the connection loses none.
    pub fn is_between_messages(&self) -> bool {
        self.len == 0 && matches!(self.stage, Stage::Begin)
    }

    /// Returns the frames of the next message, at least one, or `None` if it hasn't arrived completely.
    ///
    /// # Errors
    ///
    /// If the lengths are inconsistent or exceed the limits. The connection can't be used any more.
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
                        // The rest of the buffer would keep the frame's memory.
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

    /// Returns how many bytes the next step needs.
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

/// A message to be sent, as a [`Buf`]: write its [`slices`](Self::slices), in one vectored write if possible, and
/// [`advance`](Buf::advance) by what was written. Frames aren't copied.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pieces: VecDeque<Bytes>,
    left: usize,
}

impl Outgoing {
    /// Returns a message of these frames.
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

    /// Returns the first pieces of the unsent part, for a vectored write.
    pub fn slices(&self) -> Vec<IoSlice<'_>> {
        self.pieces.iter().take(AT_ONCE).map(|piece| IoSlice::new(piece)).collect()
    }

    /// Returns the unsent part in one piece.
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
        assert!(bytes <= self.left, "advanced by {bytes} bytes, with {} left", self.left);
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
