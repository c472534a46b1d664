//! `cargo xtask bench flame`: where the processor time of seeder and nodes goes, as flame graphs.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use inferno::flamegraph::color::MultiPalette;
use inferno::flamegraph::{self, Options, Palette};
use lab::BitRate;
use proto::units::ByteSize;
use serde::Serialize;

use super::contender::{Client, Symbols};
use super::facts::Facts;
use super::figures::Figure;
use super::member::Parts;
use super::options::Settings;
use super::outcome::RunResult;
use super::places::Places;
use super::recorder::{self, PERF};
use super::stage::{ADMIN_IP, Run};
use super::{content, publish, report};
use crate::interrupt::{CtrlC, Interrupt};
use crate::workspace;

/// Frames narrower than this share of the picture are left out, in percent.
const NARROWEST: f64 = 0.1;

/// Arguments of `cargo xtask bench flame`.
#[derive(Debug, Parser)]
pub(crate) struct FlameArgs {
    /// Nodes that fetch
    #[arg(long, default_value_t = 10)]
    nodes: u32,
    /// Rate of every link, each direction
    #[arg(long, default_value = "50Mbit")]
    rate: BitRate,
    /// Size of the image
    #[arg(long, default_value = "32MB")]
    image: ByteSize,
    /// Length of a piece
    #[arg(long, default_value = "32KiB")]
    piece: ByteSize,
    /// Where the programs of Beeswarm are, with symbols and frame pointers; built so when not given
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Folder for logs and results
    #[arg(long, default_value = "target/bench/flame")]
    output: PathBuf,
    /// Keeps the pictures as docs/bench/NAME
    #[arg(long, value_name = "NAME")]
    publish: Option<String>,
}

/// What was seen of one program.
#[derive(Debug, Serialize)]
struct Seen {
    program: &'static str,
    what: &'static str,
    /// Processor seconds.
    seconds: f64,
    /// Of those, in the kernel.
    kernel: f64,
}

/// Runs a crowd under perf and draws what it saw.
pub(crate) fn run(args: &FlameArgs) -> anyhow::Result<()> {
    PERF.find()?;
    let places = Places::prepare_with(
        args.programs.as_deref(),
        &args.output,
        args.publish.as_deref(),
        Symbols::Kept,
    )?;
    let settings = Settings::crowd(args.nodes, args.rate, args.image, args.piece);
    let case = *settings.cases.first().context("a crowd is one case")?;
    let tracker = format!("http://{ADMIN_IP}:6969/announce");
    let content = content::make(&places.output, args.image.0, args.piece.0, &tracker)?;
    let interrupt = Interrupt::install(CtrlC::Ends)?;
    let mut facts = Facts::gather();
    let recording = places.output.join("perf.data");
    let run = Run {
        settings: &settings,
        case,
        client: Client::Beeswarm,
        parts: Parts { programs: &places.programs, content: &content },
        logs: &places.output.join("logs"),
        interrupt: &interrupt,
        recording: Some(&recording),
    };
    let played = run.run().inspect_err(|_| interrupt.give_way())?;
    report::progress(&report::lines(&played.result));
    facts.programs.note("beeswarm", &played.commands, &places.aliases());
    let (mut figures, mut seen) = (Vec::new(), Vec::new());
    for (program, what, processes) in [
        ("bee-initrd-client", "all nodes, fetching and handing on", &played.nodes[..]),
        ("bee-seeder", "the admin host's seeder", &[played.seeder]),
    ] {
        let stacks = recorder::stacks(&recording, processes)
            .with_context(|| format!("looking at {program}"))?;
        let (kernel, seconds) = recorder::seconds(&stacks);
        figures.push(draw(program, what, &stacks)?);
        seen.push(Seen { program, what, seconds, kernel });
    }
    let table = table(args, &played.result, &seen);
    workspace::say(format_args!("\n{table}"));
    for folder in places.results() {
        publish::write(folder, "Where processor time goes", &facts, &seen, &table, &figures)?;
        workspace::say(format_args!("results: {}", folder.display()));
    }
    Ok(())
}

/// A flame graph: the kernel's frames have a colour of their own.
fn draw(program: &str, what: &str, stacks: &[String]) -> anyhow::Result<Figure> {
    let mut options = Options::default();
    options.title = format!("{program}: {what}");
    options.subtitle = Some("processor time; the kernel's frames in orange".to_owned());
    options.colors = Palette::Multi(MultiPalette::Java);
    options.count_name = "ns".to_owned();
    options.min_width = NARROWEST;
    options.deterministic = true;
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, stacks.iter().map(String::as_str), &mut svg)
        .with_context(|| format!("drawing {program}"))?;
    Ok(Figure { file: format!("{program}.svg"), svg: String::from_utf8(svg)? })
}

fn table(args: &FlameArgs, result: &RunResult, seen: &[Seen]) -> String {
    let mut text = format!(
        "{} nodes, {} links, image {}, pieces {}; ratio {}. Whole machine looked at by perf \
         (`cpu-clock`); work in interrupts counts for whoever was interrupted.\n\n\
         | program | what | processor s | of them in the kernel |\n|---|---|---|---|\n",
        args.nodes,
        args.rate,
        args.image,
        args.piece,
        report::number(result.ratio()),
    );
    for Seen { program, what, seconds, kernel } in seen {
        let share = 100.0 * kernel / seconds;
        // writing to a String cannot fail
        let _ = writeln!(text, "| {program} | {what} | {seconds:.2} | {share:.0} % |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_become_a_picture() {
        let stacks = ["bee-seeder;main;serve 60", "bee-seeder;main;tcp_sendmsg_[k] 40"];
        let stacks = stacks.map(str::to_owned);
        let figure = draw("bee-seeder", "admin seeder", &stacks).unwrap();
        assert_eq!(figure.file, "bee-seeder.svg");
        for part in ["<svg", "</svg>", "admin seeder", "serve", "tcp_sendmsg", "40.00%"] {
            assert!(figure.svg.contains(part), "{part}");
        }
        assert!(draw("bee-seeder", "x", &[]).is_err());
    }

    #[test]
    fn the_table_has_the_kernels_share() {
        let args = FlameArgs::try_parse_from(["flame"]).unwrap();
        let case =
            super::super::outcome::tests::case(super::super::scenario::Scenario::FlashCrowd, 10);
        let result = super::super::outcome::tests::run("beeswarm", case, &[1.1]);
        let seen = [Seen { program: "bee-seeder", what: "x", seconds: 2.0, kernel: 1.5 }];
        assert!(table(&args, &result, &seen).contains("| bee-seeder | x | 2.00 | 75 % |"));
    }
}
