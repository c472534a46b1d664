//! The lines of a program's output that say why it failed.

/// Most lines shown.
const LINES: usize = 8;

/// Words that mark a line as the reason.
const TELLING: [&str; 12] = [
    "error",
    "fatal",
    "failed",
    "cannot",
    "can't",
    "could not",
    "no space",
    "not found",
    "missing",
    "no such",
    "not signed",
    "nothing provides",
];

/// Noise: dracut modules that leave themselves out because the host lacks their programs.
const NOISE: [&str; 3] =
    ["will not be installed, because", "Could not find any command of", "memstrack"];

/// All of a short output; otherwise its last telling lines, or its last lines when none is.
/// Indented.
pub(crate) fn tail(output: &str) -> String {
    let lines = || output.lines().map(str::trim_end).filter(|l| !l.is_empty());
    let telling = |line: &&str| {
        let low = line.to_ascii_lowercase();
        TELLING.iter().any(|word| low.contains(word)) && !NOISE.iter().any(|n| line.contains(n))
    };
    let mut last: Vec<&str> = lines().filter(telling).collect();
    if last.is_empty() || lines().count() <= LINES {
        last = lines().collect();
    }
    let from = last.len().saturating_sub(LINES);
    let shown: Vec<String> = last[from..].iter().map(|line| format!("    {line}")).collect();
    if shown.is_empty() { "    (it printed nothing)".to_owned() } else { shown.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_found_among_noise() {
        let output = "dracut: dracut module 'nbd' will not be installed, because command \
                      'nbd-client' could not be found!\n\
                      dracut: Module 'systemd-networkd' cannot be installed.\n\
                      dracut: *** Including module: base ***\n";
        let output = output.to_owned() + &"dracut: chatter\n".repeat(10);
        assert_eq!(tail(&output), "    dracut: Module 'systemd-networkd' cannot be installed.");
    }

    #[test]
    fn otherwise_the_end_is_shown() {
        let output: String = (0..20).map(|n| format!("line {n}\n")).collect();
        let tail = tail(&output);
        assert_eq!(tail.lines().count(), LINES);
        assert!(tail.ends_with("line 19"));
        assert_eq!(super::tail(""), "    (it printed nothing)");
    }
}
