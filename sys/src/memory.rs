//! How much memory the machine has, and how much this process takes (proc(5)).

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Memory figures could not be had.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// The file cannot be read.
    #[error("cannot read {}: is /proc mounted?", path.display())]
    Read {
        /// The file of /proc.
        path: PathBuf,
        /// What the system call said.
        #[source]
        source: io::Error,
    },
    /// The file lacks a line that every supported kernel writes.
    #[error("{file} has no line `{field}`")]
    Missing {
        /// The file of /proc.
        file: &'static str,
        /// The field looked for.
        field: &'static str,
    },
}

const MEMINFO: &str = "/proc/meminfo";
const STATUS: &str = "/proc/self/status";

/// The machine's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineMemory {
    /// `MemTotal`: what the kernel manages.
    pub total: u64,
    /// `MemAvailable`: what can be taken without swapping, by the kernel's estimate.
    pub available: u64,
}

impl MachineMemory {
    /// Reads /proc/meminfo.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn read() -> Result<Self, MemoryError> {
        Self::parse(&read(MEMINFO)?)
    }

    /// Parses the text of /proc/meminfo.
    ///
    /// # Errors
    /// [`MemoryError::Missing`].
    pub fn parse(text: &str) -> Result<Self, MemoryError> {
        Ok(Self {
            total: field(text, MEMINFO, "MemTotal")?,
            available: field(text, MEMINFO, "MemAvailable")?,
        })
    }
}

/// Memory of this process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessMemory {
    /// `VmHWM`: the most that was ever resident at once (of every kind).
    pub peak: u64,
    /// `VmRSS`: resident now.
    pub resident: u64,
    /// `RssAnon`: of these, heap and stacks: what the process itself costs.
    pub anonymous: u64,
    /// `RssFile`: mapped files, which the kernel can drop.
    pub file: u64,
    /// `RssShmem`: shared memory and mapped tmpfs pages.
    pub shared: u64,
}

impl ProcessMemory {
    /// Reads /proc/self/status.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn read() -> Result<Self, MemoryError> {
        Self::parse(&read(STATUS)?)
    }

    /// Parses the text of /proc/PID/status.
    ///
    /// # Errors
    /// [`MemoryError::Missing`].
    pub fn parse(text: &str) -> Result<Self, MemoryError> {
        Ok(Self {
            peak: field(text, STATUS, "VmHWM")?,
            resident: field(text, STATUS, "VmRSS")?,
            anonymous: field(text, STATUS, "RssAnon")?,
            file: field(text, STATUS, "RssFile")?,
            shared: field(text, STATUS, "RssShmem")?,
        })
    }
}

fn read(path: &'static str) -> Result<String, MemoryError> {
    std::fs::read_to_string(path).map_err(|e| MemoryError::Read { path: path.into(), source: e })
}

/// Value of the line `field:   1234 kB`, in bytes.
fn field(text: &str, file: &'static str, field: &'static str) -> Result<u64, MemoryError> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| *name == field)
        .and_then(|(_, value)| value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        .and_then(|kib| kib.checked_mul(1024))
        .ok_or(MemoryError::Missing { file, field })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_memory_is_parsed_in_bytes() {
        let text = "MemTotal:       16384 kB\nMemFree: 1 kB\nMemAvailable:    1000 kB\n";
        let memory = MachineMemory::parse(text).unwrap();
        assert_eq!(memory, MachineMemory { total: 16384 * 1024, available: 1_024_000 });
    }

    #[test]
    fn missing_or_odd_lines_are_errors() {
        for text in [
            "",
            "MemTotal: 5 kB\n",
            "MemTotal: x kB\nMemAvailable: 1 kB\n",
            "MemTotal: 18446744073709551615 kB\nMemAvailable: 1 kB\n",
        ] {
            assert!(MachineMemory::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn this_machine_and_process_have_figures() {
        let machine = MachineMemory::read().unwrap();
        assert!(machine.total >= machine.available && machine.available > 0);
        let process = ProcessMemory::read().unwrap();
        assert!(process.peak >= process.anonymous && process.anonymous > 0);
    }
}
