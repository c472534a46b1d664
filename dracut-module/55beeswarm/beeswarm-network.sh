#!/bin/sh
# The network of an initrd with busybox. Arguments: BOOTIF as PXELINUX writes it, or nothing; the kernel
# arguments, of which ip= and nameserver= count (dracut.cmdline(7)): DHCP, and a fixed IPv4 address.
bootif=$(echo "${1#*-}" | tr 'A-Z-' 'a-z:')
said=

# Ethernet and InfiniBand cards; with BOOTIF= only the one that the firmware booted from
cards() {
    for path in /sys/class/net/*; do
        case "$(cat "$path/type")" in
            1 | 32) ;;
            *) continue ;;
        esac
        [ -e "$path/device" ] || continue
        [ -n "$said" ] || [ -z "$bootif" ] || [ "$(cat "$path/address")" = "$bootif" ] || continue
        echo "${path##*/}"
    done
}

# A switch port that needs a minute, a DHCP server or a card that comes late is no reason to stop.
lease() {
    running=
    while :; do
        for card in $(cards); do
            case "$1 " in "* " | "$card ") ;; *) continue ;; esac
            case " $running " in *" $card "*) continue ;; esac
            ip link set "$card" up
            udhcpc -f -i "$card" -s /usr/lib/beeswarm/lease -t 3 -T 3 -A 3 > /dev/null 2>&1 &
            running="$running $card"
        done
        sleep 1
    done
}

# ADDRESS:PEER:GATEWAY:MASK:HOST:CARD:none[:DNS[:DNS]]
fixed() {
    IFS=: read -r address _ gateway mask _ card _ dns1 dns2 << EOF
$1
EOF
    until [ -n "$card" ] && [ -e "/sys/class/net/$card" ]; do
        sleep 1
        [ -n "$card" ] || card=$(cards | head -n 1)
    done
    ip link set "$card" up
    ip addr add "$address/${mask:-24}" brd + dev "$card"
    [ -z "$gateway" ] || ip route add default via "$gateway" dev "$card"
    for server in $dns1 $dns2; do
        echo "nameserver $server" >> /etc/resolv.conf
    done
}

set -f
for word in $2; do
    case "$word" in
        nameserver=*) echo "nameserver ${word#*=}" >> /etc/resolv.conf ;;
        ip=*) said="$said ${word#*=}" ;;
        vlan=* | bond=* | bridge=* | team=*) echo "beeswarm: $word is not known here: --initrd-tool dracut" ;;
    esac
done
set +f
for word in ${said:-dhcp}; do
    case "$word" in
        none | off) ;;
        dhcp | on | any) lease '*' & ;;
        *.*.*.*:*:*:*:*:*) fixed "$word" & ;;
        [!:]*:dhcp | [!:]*:on | [!:]*:any) lease "${word%:*}" & ;;
        *) echo "beeswarm: ip=$word is not known here; an initrd of --initrd-tool dracut knows it" ;;
    esac
done
wait
