#!/bin/bash
# Read by module-setup.sh for initrds with busybox (BEESWARM_BUSYBOX).
# shellcheck disable=SC2154 # the variables that are not set here are dracut's

# in place of systemd, udev, kmod and what they link: half of an initrd
install_busybox() {
    local busybox applet
    busybox=$(command -v busybox) || { derror "beeswarm: busybox cannot be found on this host"; return 1; }
    inst "$busybox" /usr/bin/busybox || return 1
    for applet in $("$busybox" --list); do
        [[ $applet == busybox || -e $initdir/usr/bin/$applet ]] || ln -s busybox "$initdir/usr/bin/$applet"
    done
    for applet in sh modprobe ip udhcpc switch_root setsid; do
        [[ -e $initdir/usr/bin/$applet ]] || { derror "beeswarm: busybox cannot $applet"; return 1; }
    done
    # the kernel calls it by this name
    [[ -e $initdir/sbin/modprobe ]] || ln_r /usr/bin/busybox /sbin/modprobe
    inst_script "$moddir/beeswarm-init.sh" /init
    inst_script "$moddir/beeswarm-drivers.sh" /usr/lib/beeswarm/drivers
    inst_script "$moddir/beeswarm-network.sh" /usr/lib/beeswarm/network
    inst_script "$moddir/beeswarm-lease.sh" /usr/lib/beeswarm/lease
}
