#!/bin/sh
# mount hook of an initrd without systemd, sourced by dracut, up to 20 times.
# shellcheck disable=SC1091,SC2154 # the library and $root are dracut's
command -v getarg > /dev/null || . /lib/dracut-lib.sh

case "$root" in
    beeswarm:*) ;;
    *) return 0 ;;
esac

if [ -x /usr/lib/beeswarm/missing-driver ]; then
    /usr/lib/beeswarm/missing-driver &
fi

# The client waits for the network by itself. It only returns with an error
# that trying again cannot mend; its exit code says which.
bee-initrd-client boot --root "$NEWROOT" \
    || emergency_shell "beeswarm: the image was not mounted (exit code $?), see the message above"
