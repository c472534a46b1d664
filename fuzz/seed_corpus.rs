//! Writes the seeds of each target to `corpus/TARGET/`, where libFuzzer starts from.

#[path = "../proto/tests/fuzz/seeds.rs"]
mod seeds;
#[path = "../proto/tests/fuzz/targets.rs"]
mod targets;

fn main() -> std::io::Result<()> {
    for (name, _) in targets::ALL {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        std::fs::create_dir_all(&folder)?;
        for (number, seed) in seeds::of(name).iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
