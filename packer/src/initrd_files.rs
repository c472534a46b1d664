//! Looking into an initrd: dracut takes files from the host, and what it takes nodes fetch over
//! plain HTTP.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::PackError;
use crate::event::{Event, Observer};
use crate::tool::{LSINITRD, Place};

/// Unpacks the initrd into a directory in `work`. One that was not `made` here may be of a kind that
/// this host cannot unpack: a warning then says that nobody has looked into it.
///
/// # Errors
/// [`PackError::ToolMissing`], [`PackError::ToolFailed`], [`PackError::Write`].
pub(crate) fn unpack(
    initrd: &Path,
    made: bool,
    work: &Path,
    place: &Place<'_>,
    observe: Observer<'_>,
) -> Result<Option<PathBuf>, PackError> {
    let into = work.join("initrd");
    fs::create_dir(&into).map_err(|e| place.write_error(into.clone(), e))?;
    let initrd = fs::canonicalize(initrd)
        .map_err(|source| PackError::Read { path: initrd.to_owned(), source })?;
    let mut command = LSINITRD.command();
    command.arg("--unpack").arg(&initrd).current_dir(&into);
    let failed = match LSINITRD.run(command, |_| {}) {
        Ok(output) if output.status.success() && has_entries(&into) => return Ok(Some(into)),
        Ok(output) => LSINITRD.failed(&output, place, "It must be able to unpack what dracut made"),
        Err(error) => error,
    };
    if made {
        return Err(failed);
    }
    let text = "the given initrd cannot be unpacked here: nobody has looked for secrets in it";
    observe(Event::Warning { text: text.to_owned() });
    Ok(None)
}

fn has_entries(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}
