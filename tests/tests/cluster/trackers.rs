//! Two trackers that do not know of each other (BEP 12). The torrent is private: nothing else tells of peers.

use lab::BitRate;

use super::fixture::{ADMIN, Cluster, wait_complete, wait_percent};

const IMAGE: usize = 6 << 20;

#[test]
fn who_loses_one_of_two_trackers_goes_on_with_the_other() {
    let cluster = Cluster::start("two-trackers", 5, BitRate::mbit(20));
    let [other, source, first, second, third] = &cluster.nodes[..] else { panic!("five nodes") };
    let urls = [ADMIN.to_owned(), other.ip().to_string()];
    let urls = urls.map(|ip| format!("http://{ip}:6969/announce"));
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let loose = cluster.loose_as(90, IMAGE, &urls, true);
    let torrent = loose.torrent.to_str().unwrap();
    let mut one = cluster.tracker_on(&cluster.admin);
    let mut two = cluster.tracker_on(other);
    let _seeder = cluster.seed(source, &loose);

    // one goes while a node fetches
    let mut fetch = cluster.fetch(first, torrent);
    wait_percent(&mut fetch, 20.0);
    one.kill().unwrap();
    wait_complete(&mut fetch);
    assert!(cluster.image_on(first) == loose.image);
    // who comes now, hears of the others from the second alone
    let mut fetch = cluster.fetch(second, torrent);
    wait_complete(&mut fetch);
    assert!(cluster.image_on(second) == loose.image);
    // and the other way round, while the second has been forgotten by nobody
    let _one = cluster.tracker_on(&cluster.admin);
    two.kill().unwrap();
    let mut fetch = cluster.fetch(third, torrent);
    wait_complete(&mut fetch);
    assert!(cluster.image_on(third) == loose.image);
}
