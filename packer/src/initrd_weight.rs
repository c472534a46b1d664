//! What every node fetches before it knows of a swarm: the sum of kernel and initrd.

use std::fs;
use std::path::Path;

use crate::initrd::InitrdTool;

/// Bytes of kernel and initrd together that need no remark.
const LIGHT: u64 = 20_000_000;

/// What to say of kernel and initrd, if they are heavy.
pub(crate) fn remark(
    kernel: &Path,
    initrd: &Path,
    tool: InitrdTool,
    has_list: bool,
) -> Option<String> {
    // whoever needs the files says what is wrong with them
    let length = |path| fs::metadata(path).map_or(0, |meta| meta.len());
    text(length(kernel), length(initrd), tool, has_list)
}

fn text(kernel: u64, initrd: u64, tool: InitrdTool, has_list: bool) -> Option<String> {
    if kernel + initrd <= LIGHT {
        return None;
    }
    let mut remedies = Vec::new();
    if tool == InitrdTool::Dracut {
        remedies.push("`--initrd-tool dracut-busybox` makes one without systemd, half as large");
    }
    if !has_list {
        remedies.push("`--hardware FILE` leaves out the drivers of cards that you do not have");
    }
    let remedies = match remedies.is_empty() {
        true => "the kernel alone leaves no room for less".to_owned(),
        false => remedies.join("; "),
    };
    Some(format!(
        "kernel ({:.1} MB) and initrd ({:.1} MB) are more than {} MB, and nodes fetch them before there is \
         a swarm: {remedies}",
        kernel as f64 / 1e6,
        initrd as f64 / 1e6,
        LIGHT / 1_000_000,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heavy_ones_come_with_what_makes_them_lighter() {
        assert_eq!(text(12_000_000, 8_000_000, InitrdTool::Dracut, false), None);
        let both = text(12_180_000, 12_080_000, InitrdTool::Dracut, false).unwrap();
        assert!(both.starts_with("kernel (12.2 MB) and initrd (12.1 MB)"), "{both}");
        assert!(both.contains("dracut-busybox") && both.contains("--hardware"), "{both}");
        let one = text(14_000_000, 6_100_000, InitrdTool::DracutBusybox, false).unwrap();
        assert!(!one.contains("dracut-busybox") && one.contains("--hardware"), "{one}");
        let none = text(18_000_000, 3_000_000, InitrdTool::InitramfsTools, true).unwrap();
        assert!(none.ends_with("no room for less"), "{none}");
    }
}
