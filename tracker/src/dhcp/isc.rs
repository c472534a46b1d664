//! ISC dhcpd.

use super::{BIOS_PROGRAM, EFI, EFI_HTTP, EFI_PROGRAM, SCRIPT, Site};

/// Lines for `dhcpd.conf`: at its top level, or inside of the nodes' `subnet`, `group` or `pool`.
pub(super) fn lines(site: &Site<'_>) -> String {
    let hex = |arch: u16| format!("{:02x}:{:02x}", arch >> 8, arch & 0xff);
    let efi: Vec<_> =
        EFI.iter().map(|arch| format!("option beeswarm-arch = {}", hex(*arch))).collect();
    format!(
        "# Beeswarm: boot files for ISC dhcpd. Written by bee-tracker dnsmasq-config.\n\
         # The option to the top of dhcpd.conf; the rest there, or into the nodes' subnet. Try it: dhcpd -t\n\
         option beeswarm-arch code 93 = unsigned integer 16;\n\
         \n\
         # the TFTP server, with {BIOS_PROGRAM}, {EFI_PROGRAM} and {SCRIPT}\n\
         next-server {tftp};\n\
         if exists user-class and option user-class = \"iPXE\" {{\n\
         \x20 # iPXE itself\n\
         \x20 filename \"{SCRIPT}\";\n\
         }} elsif option beeswarm-arch = {http} {{\n\
         \x20 # UEFI HTTP boot: a URL, and the vendor class back, or the firmware does not listen\n\
         \x20 option vendor-class-identifier \"HTTPClient\";\n\
         \x20 filename \"{url}\";\n\
         }} elsif {efi} {{\n\
         \x20 # UEFI\n\
         \x20 filename \"{EFI_PROGRAM}\";\n\
         }} else {{\n\
         \x20 # BIOS\n\
         \x20 filename \"{BIOS_PROGRAM}\";\n\
         }}\n",
        tftp = site.tftp(),
        http = hex(EFI_HTTP),
        url = site.efi_url(),
        efi = efi.join(" or "),
    )
}
