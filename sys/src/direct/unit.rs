//! Aligned memory, and the few units read last.

use std::fmt;

use super::ALIGN;

/// Bytes whose address is a multiple of [`ALIGN`], as direct reads want it.
pub(super) struct AlignedBuffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    /// `len` zero bytes.
    pub(super) fn new(len: usize) -> Self {
        let bytes = vec![0; len + ALIGN];
        let start = bytes.as_ptr().align_offset(ALIGN);
        Self { bytes, start, len }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuffer({})", self.len)
    }
}

#[derive(Debug)]
struct Entry {
    index: u64,
    unit: AlignedBuffer,
    filled: usize,
    used: u64,
}

/// The units touched last, few enough to look through one by one.
#[derive(Debug)]
pub(super) struct UnitCache {
    entries: Vec<Entry>,
    capacity: usize,
    clock: u64,
}

impl UnitCache {
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: Vec::new(), capacity, clock: 0 }
    }

    /// Copies from unit `index`, `skip` bytes in, what it has of `buf`. `None`: not here, or it has
    /// nothing at that place.
    pub(super) fn copy(&mut self, index: u64, skip: usize, buf: &mut [u8]) -> Option<usize> {
        self.clock += 1;
        let entry = self.entries.iter_mut().find(|entry| entry.index == index)?;
        entry.used = self.clock;
        let have = entry.filled.saturating_sub(skip).min(buf.len());
        if have == 0 {
            return None;
        }
        buf[..have].copy_from_slice(&entry.unit.as_slice()[skip..skip + have]);
        Some(have)
    }

    /// Gives up the memory of the unit that was not touched for the longest time, once full.
    pub(super) fn take_oldest(&mut self) -> Option<AlignedBuffer> {
        if self.entries.len() < self.capacity {
            return None;
        }
        let oldest = self.entries.iter().enumerate().min_by_key(|(_, entry)| entry.used)?.0;
        Some(self.entries.swap_remove(oldest).unit)
    }

    /// Keeps a unit of which the first `filled` bytes were read.
    pub(super) fn insert(&mut self, index: u64, unit: AlignedBuffer, filled: usize) {
        self.clock += 1;
        self.entries.retain(|entry| entry.index != index);
        if self.entries.len() >= self.capacity {
            drop(self.take_oldest());
        }
        self.entries.push(Entry { index, unit, filled, used: self.clock });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned() {
        for len in [ALIGN, 65536] {
            let mut buffer = AlignedBuffer::new(len);
            assert_eq!(buffer.as_mut_slice().as_ptr().addr() % ALIGN, 0);
            assert_eq!(buffer.as_slice().len(), len);
        }
    }

    #[test]
    fn the_unit_untouched_for_longest_goes_first() {
        let mut cache = UnitCache::new(2);
        for index in [1, 2] {
            assert!(cache.take_oldest().is_none());
            cache.insert(index, AlignedBuffer::new(ALIGN), 100);
        }
        let mut buf = [9; 8];
        assert_eq!(cache.copy(1, 96, &mut buf), Some(4));
        assert_eq!(buf, [0, 0, 0, 0, 9, 9, 9, 9]);
        assert_eq!(cache.copy(1, 100, &mut buf), None);
        cache.insert(3, AlignedBuffer::new(ALIGN), ALIGN);
        assert_eq!(cache.copy(2, 0, &mut buf), None);
        assert!(cache.copy(1, 0, &mut buf).is_some() && cache.copy(3, 0, &mut buf).is_some());
        assert_eq!(cache.entries.len(), 2);
    }
}
