//! Reports of peers that could not be reached: an extension of ours to announces.
//!
//! `failed` and `failed6` are lists as in BEP 23 and BEP 7, in the query of an HTTP announce or in the path
//! of a UDP one (BEP 41). Other trackers ignore them.

use std::net::SocketAddr;

use crate::{peers, query};

/// Most peers that one announce reports as not reachable.
pub const MAX_FAILED: usize = 8;

/// `&failed=…&failed6=…`, or nothing.
#[must_use]
pub fn to_query(failed: &[SocketAddr]) -> String {
    let (v4, v6) = peers::encode(&failed[..failed.len().min(MAX_FAILED)]);
    let lists = [("&failed=", v4), ("&failed6=", v6)];
    let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
    lists.map(|(key, list)| key.to_owned() + &query::encode(&list)).collect()
}

/// The peers that a query, as in [`to_query`], reports; what cannot be read is left out.
#[must_use]
pub fn parse(text: &str) -> Vec<SocketAddr> {
    let mut failed = Vec::new();
    query::pairs(text).for_each(|(key, value)| read(key, value, &mut failed));
    failed.sort_unstable();
    failed
}

pub(super) fn read(key: &str, value: &str, failed: &mut Vec<SocketAddr>) {
    let decode = match key {
        "failed" => peers::decode_v4,
        "failed6" => peers::decode_v6,
        _ => return,
    };
    let list = query::decode(value).and_then(|bytes| decode(&bytes).ok()).unwrap_or_default();
    let room = MAX_FAILED.saturating_sub(failed.len());
    failed.extend(list.into_iter().take(room));
}
