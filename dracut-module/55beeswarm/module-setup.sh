#!/bin/bash
# 55beeswarm: boots the image that a Beeswarm swarm holds. Opt-in; see README.md.
# BEESWARM_CLIENT and BEESWARM_TORRENT in the environment name files to install.

check() {
    return 255 # never by itself: only with --add beeswarm
}

depends() {
    # systemd-networkd asks for a lease for ever and needs no helper program.
    if [[ " $omit_dracutmodules " == *" systemd "* ]]; then
        echo "base kernel-network-modules network"
    elif [[ -x $dracutsysrootdir$systemdutildir/systemd-networkd ]] && ! dracut_module_included network-manager; then
        echo "base kernel-network-modules dracut-systemd systemd-networkd"
    else
        echo "base kernel-network-modules dracut-systemd network"
    fi
}

installkernel() {
    # '' : also when hostonly is on, a node is not the host that packs.
    hostonly='' instmods loop squashfs overlay af_packet virtio_net virtio_pci
    hostonly='' instmods -o =drivers/net/ethernet =drivers/net/phy =drivers/net/mdio
}

install() {
    local client=${BEESWARM_CLIENT:-$(command -v bee-initrd-client || echo /usr/lib/beeswarm/bee-initrd-client)}
    inst_simple "$client" /usr/bin/bee-initrd-client \
        || { derror "beeswarm: no client at $client: set BEESWARM_CLIENT"; return 1; }
    [[ -z ${BEESWARM_TORRENT-} ]] || inst_simple "$BEESWARM_TORRENT" /rootimg.torrent || return 1
    inst_hook cmdline 30 "$moddir/parse-beeswarm.sh"
    if dracut_module_included systemd; then
        inst_simple "$moddir/beeswarm-fetch.service" "$systemdsystemunitdir/beeswarm-fetch.service"
        inst_simple "$moddir/sysroot.mount" /usr/lib/beeswarm/sysroot.mount
        inst_script "$moddir/beeswarm-generator.sh" "$systemdutildir/system-generators/beeswarm-generator"
    else
        inst_hook mount 30 "$moddir/mount-beeswarm.sh"
    fi
}
