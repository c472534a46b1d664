#!/bin/sh
# What busybox's udhcpc calls. The address has no end: the image comes by it.
# shellcheck disable=SC2154 # the variables are udhcpc's
case "$1" in
    bound | renew) ;;
    *) exit 0 ;;
esac
if ! ip -4 addr show dev "$interface" | grep -qF " $ip/$mask "; then
    ip -4 addr flush dev "$interface"
    ip addr add "$ip/$mask" brd + dev "$interface"
fi
# the first router; of several cards the first one's
ip route replace default via "${router%% *}" dev "$interface" metric "$(cat "/sys/class/net/$interface/ifindex")"
: > /run/resolv.new
for server in $dns; do
    echo "nameserver $server" >> /run/resolv.new
done
[ -z "$domain" ] || echo "search $domain" >> /run/resolv.new
[ ! -s /run/resolv.new ] || cat /run/resolv.new > /etc/resolv.conf
