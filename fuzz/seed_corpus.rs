//! Writes the seeds of each target to `corpus/TARGET/`, where libFuzzer starts from.

#[path = "../proto/tests/fuzz/seeds.rs"]
mod seeds;
#[path = "../proto/tests/fuzz/targets.rs"]
mod targets;

use beeswarm_tracker::inventory::{Format, Inventory};

/// The one target whose parser is not in `proto`.
const INVENTORY: &str = "inventory";

/// All columns, several cards, a quoted text, and the least that there can be.
const CSV: [&str; 2] = [
    "# rack 1\nmac,name,rack,group,channel,image,kernel_args,boot,bmc\n\
     52:54:00:00:00:01 52-54-00-00-00-02,n01,r1,gpu,stable,debian,\"console=ttyS1,115200 quiet\",image,10.0.9.1\n\
     52-54-00-00-00-03,n02,r1,,,,,disk,[fd00::1]:623\n",
    "mac,name\n52:54:00:00:00:01,n01\n",
];

/// The same as TOML.
const TOML: [&str; 2] = [
    "[[node]]\nmac = ['52:54:00:00:00:01', '52-54-00-00-00-02']\nname = 'n01'\nrack = 'r1'\ngroup = 'gpu'\n\
     channel = 'stable'\nimage = 'debian'\nkernel_args = 'quiet'\nboot = 'image'\nbmc = '10.0.9.1'\n",
    "[[node]]\nmac = '52:54:00:00:00:01'\nname = 'n01'\n\n[[node]]\nmac = '52:54:00:00:00:02'\nname = 'n02'\n",
];

fn main() -> std::io::Result<()> {
    for (name, _) in targets::ALL {
        write(name, &seeds::of(name))?;
    }
    for (format, texts) in [(Format::Csv, CSV), (Format::Toml, TOML)] {
        for text in texts {
            // a seed that is refused at its first line leads nowhere
            let inventory = Inventory::parse(format, text).map_err(std::io::Error::other)?;
            assert!(!inventory.entries().is_empty(), "{text}");
        }
    }
    write(
        INVENTORY,
        &[CSV, TOML].concat().into_iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>(),
    )
}

fn write(target: &str, seeds: &[Vec<u8>]) -> std::io::Result<()> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::create_dir_all(&folder)?;
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number}")), seed)?;
    }
    Ok(())
}
