#!/bin/bash
# 55beeswarm: boots the image that a Beeswarm swarm holds. Opt-in; see README.md, also for the
# variables BEESWARM_… in the environment, which name files and drivers to install.
# shellcheck disable=SC2154 # the variables that are not set here are dracut's

check() {
    return 255 # never by itself: only with --add beeswarm
}

# dracut's own module for it wants D-Bus, ip and more, half a megabyte that nothing here uses
has_networkd() {
    [[ -x $dracutsysrootdir$systemdutildir/systemd-networkd ]] && ! dracut_module_included network-manager
}

depends() {
    [[ -z ${BEESWARM_BUSYBOX-} ]] || return 0 # our own init: nothing of dracut's at boot
    echo base udev-rules
    [[ ! -x $dracutsysrootdir/bin/dash ]] || echo dash # a tenth of bash
    if [[ " $omit_dracutmodules " == *" systemd "* ]]; then
        echo network
    else
        has_networkd && echo dracut-systemd || echo dracut-systemd network
    fi
}

installkernel() {
    # hostonly='': a node is not the host that packs
    # shellcheck disable=SC2046,SC2086 # names of modules
    hostonly='' instmods ${BEESWARM_DRIVERS-$(grep -hv '^#' "$moddir"/*.list)}
}

install_networkd() {
    inst_multiple "$systemdutildir"/systemd-network{d,-generator} networkctl \
        "$systemdsystemunitdir"/systemd-network{d,-generator}.service || return 1
    inst_multiple -o "$systemdsystemunitdir"/systemd-networkd.socket "$systemdnetwork"/99-default.link
    local file
    for file in passwd group; do
        grep -qs '^systemd-network:' "$initdir/etc/$file" \
            || grep '^systemd-network:' "$dracutsysrootdir/etc/$file" >> "$initdir/etc/$file"
    done
    $SYSTEMCTL -q --root "$initdir" enable systemd-networkd.service systemd-network-generator.service
}

install() {
    local client=${BEESWARM_CLIENT:-$(command -v bee-initrd-client || echo /usr/lib/beeswarm/bee-initrd-client)}
    inst_simple "$client" /usr/bin/bee-initrd-client \
        || { derror "beeswarm: no client at $client: set BEESWARM_CLIENT"; return 1; }
    # only when it is named: a host's own file must not decide what nodes trust
    [[ -z ${BEESWARM_TRUST-} ]] || inst_simple "$BEESWARM_TRUST" /etc/beeswarm/trust.json || return 1
    [[ -z ${BEESWARM_TORRENT-} ]] || inst_simple "$BEESWARM_TORRENT" /rootimg.torrent || return 1
    inst_simple "${BEESWARM_LEFT_OUT:-/dev/null}" /usr/lib/beeswarm/left-out
    inst_script "$moddir/missing-driver.sh" /usr/lib/beeswarm/missing-driver
    # shellcheck source=/dev/null # looked at by itself
    [[ -z ${BEESWARM_BUSYBOX-} ]] || { . "$moddir/busybox-setup.sh" && install_busybox; return; }
    inst_hook cmdline 30 "$moddir/parse-beeswarm.sh"
    if dracut_module_included systemd; then
        inst_simple "$moddir/beeswarm-fetch.service" "$systemdsystemunitdir/beeswarm-fetch.service"
        inst_simple "$moddir/beeswarm-cards.service" "$systemdsystemunitdir/beeswarm-cards.service"
        inst_simple "$moddir/sysroot.mount" /usr/lib/beeswarm/sysroot.mount
        inst_script "$moddir/beeswarm-generator.sh" "$systemdutildir/system-generators/beeswarm-generator"
        ! has_networkd || install_networkd
    else
        inst_hook mount 30 "$moddir/mount-beeswarm.sh"
    fi
}
