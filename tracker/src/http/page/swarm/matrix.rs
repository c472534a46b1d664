//! Who gave how much to whom, as a table that is read by colour and by number.

use maud::{Markup, html};

use super::super::layout::scroll;
use super::super::text::{bytes, share};
use crate::fleet::exchange::{MAX_SIDE, Matrix, Party};

/// The table and what it is made of.
pub(super) fn matrix(matrix: &Matrix) -> Markup {
    let most = matrix.bytes.values().copied().max().unwrap_or(0);
    let (who, all) = if matrix.grouped { ("racks and subnets", "rack") } else { ("nodes", "node") };
    html! {
        @if most == 0 {
            p.empty { "No node has told yet whom its bytes came from (a report every ten seconds of a fetch)." }
        } @else {
            (scroll("Who gave how much to whom", &html! {
                table.matrix {
                    caption { "Rows gave, columns took; " (who) ", verified bytes of the present boots." }
                    thead { tr {
                        th scope="col" { "gave ↓ took →" }
                        @for taker in &matrix.takers { th.n scope="col" { (name(taker)) } }
                    } }
                    tbody {
                        @for (row, giver) in matrix.givers.iter().enumerate() {
                            tr {
                                th scope="row" { (name(giver)) }
                                @for column in 0..matrix.takers.len() {
                                    @match matrix.bytes.get(&(row, column)) {
                                        Some(amount) => {
                                            td.n.(class(giver)) style={ "--p:" (level(*amount, most)) "%" } {
                                                (bytes(*amount))
                                            }
                                        }
                                        None => td.n { "·" },
                                    }
                                }
                            }
                        }
                    }
                }
            }))
            @if matrix.left_out.0 > 0 {
                p.empty {
                    "The " (MAX_SIDE) " that moved most; " (matrix.left_out.0) " more " (all) "s moved "
                    (bytes(matrix.left_out.1)) ", see " a href="/api/v1/exchanges" { "the API" } "."
                }
            }
        }
    }
}

fn name(party: &Party) -> Markup {
    html! {
        @match party {
            Party::Admin => "admin host",
            Party::Node(_, name, id) => a href={ "/nodes/" (id) } { (name) },
            Party::Group(_, name) => (name),
            Party::Host(ip) => (ip),
            Party::Others => "others",
        }
    }
}

fn class(party: &Party) -> &'static str {
    if *party == Party::Admin { "admin" } else { "peers" }
}

/// How strong the colour is: at most 60, so that the number on it can be read.
fn level(amount: u64, most: u64) -> String {
    format!("{:.0}", 8.0 + share(amount, most) * 0.52)
}
