//! Kea.

use super::{BIOS, BIOS_PROGRAM, EFI, EFI_HTTP, EFI_PROGRAM, SCRIPT, Site};

/// `"client-classes"`, for the `"Dhcp4"` of a configuration.
pub(super) fn classes(site: &Site<'_>) -> String {
    let is = |arch: u16| format!("option[93].hex == 0x{arch:04x}");
    let efi: Vec<_> = EFI.iter().map(|arch| is(*arch)).collect();
    let (bios, efi, http) = (is(BIOS), efi.join(" or "), is(EFI_HTTP));
    let (tftp, url) = (site.tftp(), site.efi_url());
    format!(
        "// Beeswarm: boot files for Kea. Written by bee-tracker dnsmasq-config.\n\
         // Goes into \"Dhcp4\"; a list that is there already takes the four classes at its end.\n\
         // The TFTP server {tftp} has {BIOS_PROGRAM}, {EFI_PROGRAM} and {SCRIPT}. Try it: kea-dhcp4 -t FILE\n\
         \"client-classes\": [\n\
         \x20 // iPXE itself\n\
         \x20 {{ \"name\": \"beeswarm-ipxe\", \"test\": \"option[77].hex == 'iPXE'\",\n\
         \x20   \"next-server\": \"{tftp}\", \"boot-file-name\": \"{SCRIPT}\" }},\n\
         \x20 // UEFI HTTP boot: a URL, and the vendor class back, or the firmware does not listen\n\
         \x20 {{ \"name\": \"beeswarm-uefi-http\", \"test\": \"not member('beeswarm-ipxe') and {http}\",\n\
         \x20   \"boot-file-name\": \"{url}\",\n\
         \x20   \"option-data\": [ {{ \"name\": \"vendor-class-identifier\", \"data\": \"HTTPClient\",\n\
         \x20                      \"always-send\": true }} ] }},\n\
         \x20 // UEFI\n\
         \x20 {{ \"name\": \"beeswarm-uefi\", \"test\": \"not member('beeswarm-ipxe') and ({efi})\",\n\
         \x20   \"next-server\": \"{tftp}\", \"boot-file-name\": \"{EFI_PROGRAM}\" }},\n\
         \x20 // BIOS\n\
         \x20 {{ \"name\": \"beeswarm-bios\", \"test\": \"not member('beeswarm-ipxe') and {bios}\",\n\
         \x20   \"next-server\": \"{tftp}\", \"boot-file-name\": \"{BIOS_PROGRAM}\" }}\n\
         ]\n"
    )
}
