#!/bin/bash
# 55beeswarm: boots the image that a Beeswarm swarm holds. Opt-in; see README.md.
# BEESWARM_CLIENT, BEESWARM_TORRENT and BEESWARM_TRUST in the environment name files to install.
# shellcheck disable=SC2154 # the variables that are not set here are dracut's

check() {
    return 255 # never by itself: only with --add beeswarm
}

depends() {
    echo base udev-rules kernel-network-modules
    if [[ " $omit_dracutmodules " == *" systemd "* ]]; then
        echo network
    elif [[ -x $dracutsysrootdir$systemdutildir/systemd-networkd ]] \
        && ! dracut_module_included network-manager; then
        # asks for a lease for ever, and needs no other package
        echo dracut-systemd systemd-networkd
    else
        echo dracut-systemd network
    fi
}

installkernel() {
    # hostonly='': a node is not the host that packs
    hostonly='' instmods loop squashfs erofs overlay af_packet virtio_pci virtio_net \
        =drivers/net/ethernet =drivers/net/phy =drivers/net/mdio
    # for the rescue shell
    hostonly='' instmods atkbd i8042 hid_generic usbhid xhci-pci ehci-pci
}

install() {
    local client=${BEESWARM_CLIENT:-$(command -v bee-initrd-client || echo /usr/lib/beeswarm/bee-initrd-client)}
    inst_simple "$client" /usr/bin/bee-initrd-client \
        || { derror "beeswarm: no client at $client: set BEESWARM_CLIENT"; return 1; }
    # only when it is named: a host's own file must not decide what nodes trust
    [[ -z ${BEESWARM_TRUST-} ]] || inst_simple "$BEESWARM_TRUST" /etc/beeswarm/trust.json || return 1
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
