#!/bin/sh
# /init of an initrd with busybox in place of systemd, udev and kmod: `bee-packer pack --initrd-tool
# dracut-busybox`. It boots root=beeswarm:… and nothing else.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t devtmpfs -o nosuid dev /dev
exec < /dev/console > /dev/console 2>&1
mount -t proc -o nosuid,noexec,nodev proc /proc
mount -t sysfs -o nosuid,noexec,nodev sysfs /sys
mount -t tmpfs -o nosuid,nodev,mode=0755 run /run
mkdir -p /sysroot
arguments=$(cat /etc/cmdline /etc/cmdline.d/*.conf /proc/cmdline 2> /dev/null | tr '\n' ' ')

# of the last NAME=value
value() {
    printf '%s' "$arguments" | tr ' ' '\n' | sed -n "s/^$1=//p" | tail -n 1
}

# rd.shell= and rd.emergency= as dracut has them; leaving the shell tries again
emergency() {
    echo "beeswarm: $1"
    # Ctrl-C works in the shell where busybox can make the console its terminal
    if [ "$(value rd.shell)" != 0 ]; then
        if command -v cttyhack > /dev/null; then setsid cttyhack sh; else sh; fi
    fi
    case "$(value rd.emergency)" in
        reboot) reboot -f ;;
        poweroff) poweroff -f ;;
        halt) halt -f ;;
    esac
    while [ "$(value rd.shell)" = 0 ]; do sleep 3600; done
}

case "$(value root)" in
    beeswarm:*) ;;
    *) while :; do emergency "this initrd boots root=beeswarm:… and nothing else"; done ;;
esac

/usr/lib/beeswarm/drivers > /dev/null 2>&1 &
drivers=$!
# /dev/loop-control and /dev/mapper/control come with the drivers
modprobe -a -q loop squashfs overlay erofs af_packet dm_mod dm_verity 2> /dev/null
# in a process group of its own, to end with all that it started
setsid /usr/lib/beeswarm/network "$(value BOOTIF)" "$arguments" &
network=$!
setsid /usr/lib/beeswarm/missing-driver &
cards=$!
# The client waits for the network by itself, for ever. It only returns with an error that trying again
# cannot mend. When memory is short the kernel must not pick the one process that boots us.
until (echo -1000 > /proc/self/oom_score_adj; exec bee-initrd-client boot --root /sysroot); do
    emergency "the image was not mounted (exit code $?), see the message above"
done
init=$(value init)
init=${init:-/sbin/init}
while [ ! -e "/sysroot$init" ] && [ ! -L "/sysroot$init" ]; do
    emergency "the image has no $init"
done
# addresses stay, and are not released: the running system goes on with them
kill -9 "$drivers" -"$network" -"$cards" 2> /dev/null
for path in dev run sys proc; do
    mount -o move "/$path" "/sysroot/$path"
done
exec switch_root /sysroot "$init" "$@"
