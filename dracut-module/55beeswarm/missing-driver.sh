#!/bin/sh
# Names the network cards that nobody drives, and what would. Runs beside the client, once.
left_out=/usr/lib/beeswarm/left-out

say() {
    echo "beeswarm: network card PCI $1" > /dev/kmsg
    echo "beeswarm: network card PCI $1"
}

# kmod's modprobe says it; that of busybox cannot be asked
driver_of() {
    modprobe -R "$1" 2> /dev/null && return
    while read -r _ pattern name; do
        # shellcheck disable=SC2254 # a pattern
        case "$1" in
            $pattern) echo "$name" && return ;;
        esac
    done < "/lib/modules/$(uname -r)/modules.alias"
}

if command -v udevadm > /dev/null; then
    udevadm settle --timeout=30
else
    sleep 10
fi
for device in "${SYSFS:-/sys}"/bus/pci/devices/*; do
    read -r class < "$device/class" || continue
    case "$class" in
        0x02*) ;;
        *) continue ;;
    esac
    [ ! -e "$device/driver" ] || continue
    read -r alias < "$device/modalias"
    read -r vendor < "$device/vendor"
    read -r product < "$device/device"
    card=${vendor#0x}:${product#0x}
    if driver=$(driver_of "$alias" 2> /dev/null) && [ -n "$driver" ]; then
        say "$card: its driver $driver does not take it, see dmesg (firmware missing in the image?)"
        continue
    fi
    driver=NAME
    while read -r id name; do
        # shellcheck disable=SC2254 # a pattern: the device may be a star
        case "$card" in
            $id) driver=$name && break ;;
        esac
    done < "$left_out"
    say "$card has no driver in this initrd: pack with --driver $driver"
done
