//! How one learns that a program has its file.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use crate::error::LabError;
use crate::process::Proc;

/// When a program is complete. A look costs little: it is taken many times a second, at many nodes.
#[derive(Debug)]
pub struct Done(Sign);

#[derive(Debug)]
enum Sign {
    /// The program's hook made this file, as the caller can open it.
    File(PathBuf),
    /// A line of standard output holds this text; bytes before `seen` have been looked at.
    Line { text: &'static str, seen: u64 },
    /// The program ends, and well.
    Exit,
}

impl Done {
    /// When this file appears; the path is as the caller can open it.
    pub fn file(path: impl Into<PathBuf>) -> Done {
        Done(Sign::File(path.into()))
    }

    /// When a line with this text is printed to standard output.
    pub fn line(text: &'static str) -> Done {
        Done(Sign::Line { text, seen: 0 })
    }

    /// When the program ends with status 0.
    pub fn exit() -> Done {
        Done(Sign::Exit)
    }

    /// Whether the program has its file by now.
    ///
    /// # Errors
    /// [`LabError::File`] when its output cannot be read, [`LabError::Wait`] when the system will
    /// not say whether it runs.
    pub fn reached(&mut self, proc: &mut Proc) -> Result<bool, LabError> {
        match &mut self.0 {
            Sign::File(path) => Ok(path.exists()),
            Sign::Exit => Ok(proc.try_wait()?.is_some_and(|status| status.success())),
            Sign::Line { text, seen } => {
                let lines = new_lines(proc.out_path(), seen)?;
                Ok(lines.windows(text.len()).any(|window| window == text.as_bytes()))
            }
        }
    }
}

/// The whole lines that were printed since the last call.
fn new_lines(path: &Path, seen: &mut u64) -> Result<Vec<u8>, LabError> {
    let read = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(*seen))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let mut bytes = read().map_err(LabError::file("read", path))?;
    // an unfinished line is read again
    bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1));
    *seen += bytes.len() as u64;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_whole_line_is_read_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut seen = 0;
        let mut more = |text: &str| {
            fs::write(file.path(), text).unwrap();
            String::from_utf8(new_lines(file.path(), &mut seen).unwrap()).unwrap()
        };
        assert_eq!(more("one\ntw"), "one\n");
        assert_eq!(more("one\ntwo"), "");
        assert_eq!(more("one\ntwo\nthree\n"), "two\nthree\n");
        assert_eq!(more("one\ntwo\nthree\n"), "");
    }

    #[test]
    fn output_that_is_gone_is_named() {
        let error = new_lines(Path::new("/nowhere/n1.out"), &mut 0).unwrap_err();
        assert!(error.to_string().contains("/nowhere/n1.out"), "{error}");
    }
}
