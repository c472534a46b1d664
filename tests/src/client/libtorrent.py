"""A BitTorrent client of libtorrent-rasterbar, for one torrent.

Usage: libtorrent.py TORRENT FOLDER PORT leech|seed [PIPE]

Fetches to FOLDER and prints "complete" once, or seeds what is there; then seeds until it is ended.
With PIPE it starts when somebody opens that for writing. With LSD=1 in the environment it looks for
peers by multicast; peers tell it of others unless the torrent is private. With CHECK=1 a seeder reads
what it has before it starts. With PEER=ADDRESS:PORT it fetches from there, and knows of the torrent no more
than its info dictionary: it has to ask for the hashes of BEP 52.
"""

import os
import sys
import time

import libtorrent

# Seconds between announces: in a lab the tracker's half an hour is for ever.
ANNOUNCE = 3

ALERTS = libtorrent.alert_category


def settings(port):
    # the library's own preset for hosts that hand out at the rate of their link: many connections,
    # deep queues, large buffers, no limit to unchoked peers. Measured without gain, two runs each: 4 or
    # 8 slots, a decision every 2 s, small buffers, shallow queues, no suggestions. Super-seeding spares
    # the seeder (1.1 images instead of 2.3) and takes half as long again.
    chosen = libtorrent.high_performance_seed()
    chosen.update(
        {
            "listen_interfaces": f"0.0.0.0:{port}",
            "alert_mask": ALERTS.error | ALERTS.status | ALERTS.storage,
            # nobody to find that way in a lab, and the torrent is private (BEP 27)
            "enable_dht": False,
            "enable_lsd": os.environ.get("LSD") == "1",
            "enable_upnp": False,
            "enable_natpmp": False,
            # plain TCP: uTP gives way to everything else (BEP 29), ciphers cost processor time
            "enable_outgoing_utp": False,
            "enable_incoming_utp": False,
            "in_enc_policy": int(libtorrent.enc_policy.disabled),
            "out_enc_policy": int(libtorrent.enc_policy.disabled),
            # connects to everybody at once, and again soon
            "smooth_connects": False,
            "torrent_connect_boost": 200,
            "min_reconnect_time": 1,
            "peer_connect_timeout": 3,
            # the preset gives up at the first failure: a peer that starts late would be lost
            "max_failcount": 5,
            "min_announce_interval": 1,
            # rarest first even when many seeds are about
            "auto_sequential": False,
        }
    )
    return chosen


def without_layers(torrent):
    """The torrent as a magnet link leads to it: the hashes beside `info` are missing."""
    with open(torrent, "rb") as file:
        info = libtorrent.bdecode(file.read())[b"info"]
    return libtorrent.torrent_info({b"info": info})


def main():
    torrent, folder, port, mode = sys.argv[1:5]
    if len(sys.argv) > 5:
        open(sys.argv[5]).close()
    seeds = mode == "seed"
    peer = os.environ.get("PEER")
    chosen = settings(int(port))
    if peer:
        # says why it leaves a peer
        chosen["alert_mask"] |= ALERTS.peer
    session = libtorrent.session(chosen)
    parameters = libtorrent.add_torrent_params()
    parameters.ti = without_layers(torrent) if peer else libtorrent.torrent_info(torrent)
    parameters.save_path = folder
    flags = libtorrent.torrent_flags
    # started now, not when a queue of torrents has room for it
    parameters.flags &= ~(flags.paused | flags.auto_managed)
    if seeds and os.environ.get("CHECK") != "1":
        # the file is complete: no check before the start. It then has no hashes of blocks to tell
        parameters.flags |= flags.seed_mode
    handle = session.add_torrent(parameters)
    if peer:
        address, _, port = peer.rpartition(":")
        handle.connect_peer((address, int(port)))
    announced = time.monotonic()
    while True:
        session.wait_for_alert(ANNOUNCE * 1000)
        for alert in session.pop_alerts():
            if isinstance(alert, libtorrent.torrent_finished_alert) and not seeds:
                handle.flush_cache()
            elif isinstance(alert, libtorrent.cache_flushed_alert) and not seeds:
                # all is in the file now, for whoever compares it
                seeds = True
                print("complete", flush=True)
            else:
                print(alert, file=sys.stderr, flush=True)
        if not seeds and time.monotonic() >= announced + ANNOUNCE:
            announced = time.monotonic()
            handle.force_reannounce(0, -1, libtorrent.reannounce_flags_t.ignore_min_interval)


main()
