#!/bin/sh
# systemd generator of the initrd: with root=beeswarm:… the root comes from
# beeswarm-fetch.service. Arguments: normal, early and late unit folder.
# shellcheck disable=SC1091 # the library is dracut's
command -v getarg > /dev/null || . /lib/dracut-lib.sh

case "$(getarg root=)" in
    beeswarm:*) ;;
    *) exit 0 ;;
esac

# systemd-fstab-generator makes a sysroot.mount out of root= too, with the URL
# as the device. The early folder is read before it.
ln -sf /usr/lib/beeswarm/sysroot.mount "$2/sysroot.mount"
mkdir -p "$1/initrd-root-fs.target.requires"
ln -sf "$2/sysroot.mount" "$1/initrd-root-fs.target.requires/sysroot.mount"
# says which network card has no driver; nothing waits for it
mkdir -p "$1/initrd.target.wants"
ln -sf /usr/lib/systemd/system/beeswarm-cards.service "$1/initrd.target.wants/beeswarm-cards.service"
