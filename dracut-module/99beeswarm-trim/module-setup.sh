#!/bin/bash
# 99beeswarm-trim: removes what the modules of dracut bring and a node that boots by 55beeswarm does
# not run. It is installed last. Libraries are added after it, for the programs that are left.
# shellcheck disable=SC2154 # the variables that are not set here are dracut's

check() {
    return 255 # never by itself: only with --add beeswarm-trim
}

install() {
    local found
    # disks, optical drives and floppies: no driver of theirs is there either
    rm -f "$initdir"/usr/lib/udev/{ata,scsi,cdrom}_id "$initdir"/lib/udev/{ata,scsi,cdrom}_id
    rm -f "$initdir"/{usr/,}lib/udev/rules.d/{59,60,61}-persistent-storage*.rules
    rm -f "$initdir"/{usr/,}lib/udev/rules.d/{60-cdrom_id,60-block,64-btrfs,70-uaccess,71-seat,73-seat-late,90-vconsole}.rules
    # comfort of the rescue shell, beyond sh, ls, cat, dmesg, journalctl and ip
    rm -f "$initdir"/usr/bin/{less,findmnt,busctl,networkctl,systemd-cgls,systemd-run,systemd-escape}
    # users of other machines: the client links its own resolver
    for found in "$initdir"/{usr/,}lib/{*-linux-gnu*/,}libnss_* "$initdir"/{usr/,}lib64/libnss_*; do
        [[ $found == *libnss_files* ]] || rm -f "$found"
    done
}
