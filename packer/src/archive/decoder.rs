//! Taking compression away, by the programs that every distribution has for it: they run beside
//! us, on another core.

use std::io::{self, Read};
use std::process::{Child, ChildStdout, Stdio};
use std::thread::{self, JoinHandle};

use super::compression::Compression;
use super::error::ArchiveError;
use crate::error::PackError;

/// What a compressed stream holds.
#[derive(Debug)]
pub(crate) enum Decoder<R> {
    /// It is not compressed.
    Plain(R),
    /// A program decodes it.
    Program(Box<Program<R>>),
}

/// A program, and the threads that feed it and hear its complaints.
#[derive(Debug)]
pub(crate) struct Program<R> {
    name: &'static str,
    child: Child,
    output: ChildStdout,
    feeder: JoinHandle<(R, io::Result<()>)>,
    messages: JoinHandle<String>,
}

impl<R: Read + Send + 'static> Decoder<R> {
    /// # Errors
    /// [`PackError::ToolMissing`].
    pub(crate) fn new(input: R, compression: Compression) -> Result<Self, PackError> {
        let Some(tool) = compression.program() else { return Ok(Self::Plain(input)) };
        let mut command = tool.command();
        command.arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| tool.missing(source))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(output), Some(stderr)) = pipes else {
            return Err(tool.missing(io::ErrorKind::BrokenPipe.into()));
        };
        let feeder = thread::spawn(move || feed(input, stdin));
        let messages = thread::spawn(move || {
            let mut text = Vec::new();
            // as much as a message can sensibly be
            let _ = stderr.take(4096).read_to_end(&mut text);
            String::from_utf8_lossy(&text).trim().to_owned()
        });
        let name = tool.program;
        Ok(Self::Program(Box::new(Program { name, child, output, feeder, messages })))
    }

    /// The input, read to its end in any case, and what was wrong with it or its compression.
    pub(crate) fn finish(self) -> (R, Result<(), ArchiveError>) {
        match self {
            Self::Plain(mut input) => {
                let rest = io::copy(&mut input, &mut io::sink());
                let rest = rest.map(drop).map_err(|source| ArchiveError::Read { source });
                (input, rest)
            }
            Self::Program(program) => program.finish(),
        }
    }
}

impl<R> Program<R> {
    fn finish(self) -> (R, Result<(), ArchiveError>) {
        let Self { name, mut child, mut output, feeder, messages } = self;
        let rest = io::copy(&mut output, &mut io::sink());
        let status = child.wait();
        let message = messages.join().unwrap_or_default();
        let Ok((input, fed)) = feeder.join() else { unreachable!("reading does not panic") };
        let result = match (status, fed, rest) {
            // the cause, whatever the program makes of it
            (_, Err(source), _) => Err(ArchiveError::Read { source }),
            (Ok(status), ..) if !status.success() => {
                let message = if message.is_empty() { status.to_string() } else { message };
                Err(ArchiveError::Compressed { program: name, message })
            }
            (Err(source), ..) | (.., Err(source)) => Err(ArchiveError::Read { source }),
            (Ok(_), Ok(()), Ok(_)) => Ok(()),
        };
        (input, result)
    }
}

/// Hands the input on, and reads it to its end even when nobody wants it any more: its digest is
/// made on the way.
fn feed<R: Read>(mut input: R, mut to: impl io::Write) -> (R, io::Result<()>) {
    let mut buffer = vec![0; 256 * 1024];
    let mut listens = true;
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return (input, Ok(())),
            Ok(count) => listens = listens && to.write_all(&buffer[..count]).is_ok(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (input, Err(error)),
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(input) => input.read(buffer),
            Self::Program(program) => program.output.read(buffer),
        }
    }
}
