#!/bin/sh
# Part of an initrd with busybox in place of udev: each device names the driver that it wants, and a driver
# may bring devices of its own, also later. Ends only when it is killed.
wanted=
while :; do
    found=$(find /sys/devices -name modalias -exec cat {} + | sort -u)
    if [ "$found" = "$wanted" ]; then
        sleep 2
    else
        wanted=$found
        # shellcheck disable=SC2086 # words are wanted, and no patterns
        (set -f && modprobe -a -b -q $found)
    fi
done
