//! What the swarm's page is made of.

use proto::event::exchange::Gift;

use super::*;

fn ip(n: u8) -> IpAddr {
    IpAddr::from([10, 0, n / 100, n])
}

fn revision() -> RevisionRef {
    "debian@0123456789ab".parse().unwrap()
}

fn node(n: u8, from: &[(u8, u64)], bits: &str) -> Told {
    let from = from.iter().map(|(n, bytes)| Gift { from: ip(*n), bytes: *bytes }).collect();
    let holding = Some(Holding { pieces: 6, bits: bits.to_owned() });
    Told {
        id: NodeId([2, 0, 0, 0, 0, n]),
        addr: ip(n),
        name: format!("n{n}"),
        group: format!("rack r{}", n / 10),
        revision: Some(revision()),
        complete: bits == "fc",
        exchange: Some(Exchange { from, others: u64::from(n), holding }),
    }
}

fn exchanges(nodes: Vec<Told>) -> Exchanges {
    Exchanges { nodes, admins: [ip(1)].into() }
}

fn names(parties: &[Party]) -> Vec<String> {
    let name = |party: &Party| match party {
        Party::Admin => "admin".to_owned(),
        Party::Node(_, name, _) | Party::Group(_, name) => name.clone(),
        Party::Host(ip) => ip.to_string(),
        Party::Others => "others".to_owned(),
    };
    parties.iter().map(name).collect()
}

#[test]
fn givers_are_named_where_their_address_is_known() {
    let all = exchanges(vec![
        node(2, &[(1, 500), (10, 70)], "80"),
        node(10, &[(1, 400), (2, 60), (99, 5)], "80"),
    ]);
    let matrix = all.matrix();
    assert_eq!(names(&matrix.givers), ["admin", "n2", "n10", "10.0.0.99", "others"]);
    assert_eq!(names(&matrix.takers), ["n2", "n10"]);
    let expected = [((0, 0), 500), ((0, 1), 400), ((1, 1), 60), ((2, 0), 70), ((3, 1), 5)];
    let expected = expected.into_iter().chain([((4, 0), 2), ((4, 1), 10)]).collect();
    assert_eq!(matrix.bytes, expected);
    assert_eq!((matrix.grouped, matrix.left_out), (false, (0, 0)));
}

#[test]
fn two_nodes_behind_one_address_are_not_mixed_up() {
    let mut twin = node(3, &[], "80");
    twin.addr = ip(2);
    let all = exchanges(vec![node(2, &[], "80"), twin, node(4, &[(2, 9)], "80")]);
    assert!(all.edges().contains(&Edge {
        from: Party::Host(ip(2)),
        to: NodeId([2, 0, 0, 0, 0, 4]),
        bytes: 9
    }));
}

#[test]
fn many_nodes_are_shown_by_rack_and_no_byte_is_lost() {
    let nodes: Vec<Told> =
        (2..60).map(|n| node(n, &[(1, 1000), ((n + 17) % 60, 100)], "80")).collect();
    let all = exchanges(nodes);
    let matrix = all.matrix();
    assert!(matrix.grouped);
    assert_eq!(
        names(&matrix.takers),
        ["rack r0", "rack r1", "rack r2", "rack r3", "rack r4", "rack r5"]
    );
    let total: u64 = all.edges().iter().map(|edge| edge.bytes).sum();
    assert_eq!(matrix.bytes.values().sum::<u64>() + matrix.left_out.1, total);
}

#[test]
fn pieces_are_counted() {
    // six pieces: 101100, 100000, and one that has all; three announced that they have all
    let all = exchanges(vec![node(2, &[], "b0"), node(3, &[], "80"), node(4, &[], "fc")]);
    let found = all.availability(&revision(), 3).unwrap();
    assert_eq!(found.by_copies, [(3, 3), (4, 2), (5, 1)].into());
    assert_eq!((found.rarest(), found.pieces, found.at_least), (Some((3, 3)), 6, false));
    // nobody announced, as after a start of the tracker: the nodes' own word
    assert_eq!(all.availability(&revision(), 0).unwrap().rarest(), Some((1, 3)));
    assert_eq!(all.availability(&"other@0123456789ab".parse().unwrap(), 3), None);
}
