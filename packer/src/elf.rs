//! Does a program need libraries? Answered from its program headers.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Program header type of the path of the dynamic loader (elf(5)).
const PT_INTERP: u32 = 3;

/// What a file is, as far as it matters in an initrd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Linkage {
    /// Runs by itself.
    Static,
    /// Needs a loader and libraries.
    Dynamic,
    /// No 64-bit little-endian ELF program.
    NotElf,
}

/// Reads the headers of the file at `path`.
///
/// # Errors
/// Those of reading.
pub(crate) fn linkage(path: &Path) -> io::Result<Linkage> {
    let mut head = Vec::new();
    // program headers follow the file header, in every linker's output
    File::open(path)?.take(4096).read_to_end(&mut head)?;
    Ok(parse(&head))
}

fn parse(head: &[u8]) -> Linkage {
    fn field<const N: usize>(head: &[u8], at: usize) -> Option<[u8; N]> {
        head.get(at..at.checked_add(N)?)?.try_into().ok()
    }
    let headers = || {
        let table = usize::try_from(u64::from_le_bytes(field(head, 0x20)?)).ok()?;
        let size = usize::from(u16::from_le_bytes(field(head, 0x36)?));
        let count = usize::from(u16::from_le_bytes(field(head, 0x38)?));
        let at = move |n: usize| table.checked_add(n.checked_mul(size)?);
        (0..count).map(|n| field(head, at(n)?).map(u32::from_le_bytes)).collect::<Option<Vec<_>>>()
    };
    // 64-bit, little-endian
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return Linkage::NotElf;
    }
    match headers() {
        Some(kinds) if kinds.contains(&PT_INTERP) => Linkage::Dynamic,
        Some(_) => Linkage::Static,
        None => Linkage::NotElf,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_dynamic_and_a_script_is_not_elf() {
        let me = std::env::current_exe().unwrap();
        assert_eq!(linkage(&me).unwrap(), Linkage::Dynamic);
        assert_eq!(parse(b"#!/bin/sh\n"), Linkage::NotElf);
    }

    #[test]
    fn headers_decide() {
        let mut head = vec![0; 0x40 + 0x38];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        head[0x20] = 0x40;
        head[0x36] = 0x38;
        head[0x38] = 1;
        head[0x40] = 1;
        assert_eq!(parse(&head), Linkage::Static);
        head[0x40] = 3;
        assert_eq!(parse(&head), Linkage::Dynamic);
        for cut in 0..head.len() {
            parse(&head[..cut]);
        }
        // a table that lies about its place
        head[0x20..0x28].copy_from_slice(&[0xff; 8]);
        assert_eq!(parse(&head), Linkage::NotElf);
    }
}
