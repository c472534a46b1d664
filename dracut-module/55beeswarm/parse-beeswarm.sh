#!/bin/sh
# cmdline hook, sourced by dracut: inert unless root=beeswarm:…
# shellcheck disable=SC1091,SC2154 # the library and $root are dracut's
command -v getarg > /dev/null || . /lib/dracut-lib.sh

case "$root" in
    beeswarm:*) ;;
    *) return 0 ;;
esac

# shellcheck disable=SC2034 # read by dracut: somebody knows this root
rootok=1

# A switch port that needs a minute, or a DHCP server that comes late, is no
# reason for an emergency shell. /proc/cmdline is read after this and wins.
echo "rd.neednet=1 rd.retry=1000000 rd.net.dhcp.retry=1000000 rd.net.timeout.carrier=600" \
    > /etc/cmdline.d/beeswarm.conf

# systemd-networkd has no default of its own. ip= is read by
# systemd-network-generator; BOOTIF= names the card that the firmware booted from.
if ! getarg ip= > /dev/null; then
    match='Type=ether infiniband'
    bootif=$(getarg BOOTIF=) && match="MACAddress=${bootif#*-}"
    mkdir -p /run/systemd/network
    printf '[Match]\n%s\n[Network]\nDHCP=yes\n[DHCPv4]\nClientIdentifier=mac\n' "$match" \
        > /run/systemd/network/zz-beeswarm.network
    [ -n "$bootif" ] || echo "ip=dhcp" >> /etc/cmdline.d/beeswarm.conf
    unset match bootif
fi
