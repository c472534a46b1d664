//! The image as squashfs, made by mksquashfs.

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::PackError;
use crate::event::{Event, Observer};
use crate::format::{Compression, ImageFormat};
use crate::image::Named;
use crate::meter::Meter;
use crate::tool::{Look, MKSQUASHFS, Place};

/// Before the name of an attribute that is left out.
const UNKNOWN: &str = "Unrecognised xattr prefix ";

/// What to make.
pub(crate) struct Job<'a> {
    pub(crate) root: &'a Path,
    pub(crate) image: &'a Named<'a>,
    /// It writes through us, and cannot when this process is gone.
    pub(crate) is_watched: bool,
    /// Bytes of the image that are written.
    pub(crate) written: &'a dyn Fn() -> u64,
    pub(crate) format: ImageFormat,
    /// Directories whose contents are left out.
    pub(crate) emptied: &'a [&'a str],
    /// Which data comes first, see [`crate::order`].
    pub(crate) sort_file: Option<&'a Path>,
}

/// Makes an image of a tree; the same tree gives the same bytes.
///
/// Kept: owners, modes, times, hard links, device nodes, extended attributes (file capabilities
/// and SELinux labels are such). Not kept, because squashfs cannot: POSIX ACLs; a warning says so.
///
/// # Errors
/// [`PackError::ToolFailed`], [`PackError::ToolMissing`], [`PackError::DiskFull`].
pub(crate) fn make(
    job: &Job<'_>,
    place: &Place<'_>,
    observe: Observer<'_>,
    meter: &mut Meter<'_>,
) -> Result<(), PackError> {
    let format = job.format;
    let mut command = MKSQUASHFS.command();
    let image = (job.image)(&mut command)?;
    command.arg(job.root).arg(image);
    command.args(["-comp", format.compression().name()]).args(level(format));
    command.args(["-b", &format.block_size().to_string()]);
    command.args(["-noappend", "-progress", "-no-recovery"]);
    // a file that cannot be read would otherwise be left out with a message
    command.arg("-exit-on-error");
    // by default it takes a quarter of the host's memory
    command.args(["-mem", "1G"]);
    // the time of packing, and the root directory's own time, are no part of the content
    command.args(["-mkfs-time", "0"]);
    if knows("-root-time")? {
        command.args(["-root-time", "0"]);
    }
    if let Some(file) = job.sort_file {
        command.arg("-sort").arg(file);
    }
    command.args(["-wildcards", "-e"]);
    // as in a shell, `*` does not stand for hidden files
    command
        .args(job.emptied.iter().map(|dir| format!("{dir}/*")))
        .args(job.emptied.iter().map(|dir| format!("{dir}/.*")));
    let mut done = 0;
    let watch = |look: Look<'_>| {
        if let Some((count, all)) = last_count(look.output) {
            done = meter.share(count, all);
        }
        meter.image(done, (job.written)());
    };
    let output = match job.is_watched {
        true => MKSQUASHFS.follow_on_terminal(command, watch),
        // it would not notice that we are gone
        false => MKSQUASHFS.follow(command, watch),
    }?;
    if !output.status.success() {
        let remedy = "Everything in the source must be readable, and stay as it is while packing";
        return Err(MKSQUASHFS.failed(&output, place, remedy));
    }
    for text in warnings(&output.text) {
        observe(Event::Warning { text });
    }
    Ok(())
}

/// What mksquashfs left out, for people: it says so of each file.
fn warnings(output: &str) -> Vec<String> {
    let lines = output.split(['\n', '\r']);
    let names: BTreeSet<&str> =
        lines.filter_map(|line| Some(line.split_once(UNKNOWN)?.1.trim())).collect();
    let (acls, others): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| name.starts_with("system.posix_acl"));
    let mut warnings = Vec::new();
    if !acls.is_empty() {
        warnings.push(
            "the source has POSIX ACLs; squashfs cannot hold them, they were left out (use \
             --format erofs, or set them at boot with tmpfiles.d)"
                .to_owned(),
        );
    }
    if !others.is_empty() {
        warnings.push(format!(
            "the source has extended attributes that squashfs cannot hold, they were left out: {}",
            others.join(", ")
        ));
    }
    warnings
}

/// Options of the compressor for a level that [`ImageFormat`] has checked.
fn level(format: ImageFormat) -> Vec<String> {
    match (format.compression(), format.level()) {
        (Compression::Zstd, Some(level)) => {
            vec!["-Xcompression-level".to_owned(), level.to_string()]
        }
        (Compression::Lz4, Some(2..)) => vec!["-Xhc".to_owned()],
        _ => Vec::new(),
    }
}

/// Whether this host's mksquashfs has an option (4.4, of RHEL 9, has fewer).
fn knows(option: &str) -> Result<bool, PackError> {
    let mut command = MKSQUASHFS.command();
    command.arg("-help");
    Ok(MKSQUASHFS.run(command, |_| {})?.text.contains(option))
}

/// Blocks that are done and blocks in all, of the last line in a piece of mksquashfs's progress bar.
fn last_count(bytes: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(bytes).ok()?;
    // what it says in the end has percents of its own, and may come with the last bar
    text.split(['\r', '\n']).rev().find_map(|line| {
        let mut words = line.trim_end().strip_suffix('%')?.split_whitespace().rev();
        let (done, all) = words.nth(1)?.split_once('/')?;
        Some((done.parse().ok()?, all.parse().ok()?)).filter(|(done, all)| done <= all)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_from_the_bar() {
        let bar = b"\r[=/                 ]   200/11091   1%\r[==\\        ]  300/1100  27%";
        assert_eq!(last_count(bar), Some((300, 1100)));
        assert_eq!(last_count(b"\r[====] 11091/11091 100%\n"), Some((11091, 11091)));
        let end =
            b"\r[===/] 384/384 100%\n\nExportable\n\t99.80% of uncompressed filesystem size\n";
        assert_eq!(last_count(end), Some((384, 384)));
        for other in
            [&b"Creating 4.0 filesystem"[..], b"%", b"x%", b"9/8 112%", b"1/x 5%", b"\xff 1/2 5%"]
        {
            assert_eq!(last_count(other), None);
        }
    }

    #[test]
    fn what_is_left_out_is_told_once() {
        let output = "[=] 5%\rUnrecognised xattr prefix system.posix_acl_access\n\
                      Unrecognised xattr prefix system.nfs4_acl\n\
                      Unrecognised xattr prefix system.posix_acl_default\n\
                      Unrecognised xattr prefix system.nfs4_acl\n";
        let warnings = warnings(output);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("--format erofs"), "{warnings:?}");
        assert!(warnings[1].ends_with("left out: system.nfs4_acl"), "{warnings:?}");
        assert!(super::warnings("Creating 4.0 filesystem\n").is_empty());
    }

    #[test]
    fn options_are_looked_up() {
        assert!(knows("-noappend").expect("squashfs-tools must be installed for this test"));
        assert!(!knows("-no-such-option").unwrap());
    }
}
