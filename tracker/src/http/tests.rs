//! Who waits for what is drawn, and who does not.

use std::net::SocketAddr;

use proto::event::{Event, EventBatch, EventKind};
use proto::node_id::NodeId;

use super::*;

fn app() -> Arc<App> {
    let (app, _) = App::open(crate::Config::default()).unwrap();
    Arc::new(app)
}

fn ends() -> Extension<Ends> {
    let end = SocketAddr::from(([127, 0, 0, 1], 1));
    Extension(Ends { peer: end, local: end })
}

#[tokio::test]
async fn those_who_read_wait_in_a_queue_with_an_end() {
    let app = app();
    let state = || State(app.clone());
    let drawn = page::swarm(state(), ends(), HeaderMap::new()).await;
    assert_eq!(drawn.status(), StatusCode::OK);
    let turn = app.drawing.acquire().await.unwrap();
    let ask = |_| tokio::spawn(metrics::metrics(state(), HeaderMap::new()));
    let waiting: Vec<_> = (0..MAX_WAITING).map(ask).collect();
    // each of them has taken its place
    tokio::task::yield_now().await;
    let refused = [
        metrics::metrics(state(), HeaderMap::new()).await,
        nodes::list(state()).await,
        nodes::stalled(state()).await,
        swarm::swarm(state()).await,
        swarm::exchanges(state()).await,
        usage::usage(state()).await,
        page::images(state(), ends(), HeaderMap::new()).await,
    ];
    for (at, answer) in refused.iter().enumerate() {
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{at}");
        assert!(answer.headers().contains_key(header::RETRY_AFTER), "{at}");
    }
    let again = page::swarm(state(), ends(), HeaderMap::new()).await;
    assert_eq!(again.status(), StatusCode::OK, "drawn a moment ago");
    drop(turn);
    for answer in waiting {
        assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn the_list_of_nodes_is_whole_though_it_is_copied_in_parts() {
    let app = app();
    let id = |n: u16| NodeId([2, 0, 0, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]]);
    let addr = std::net::IpAddr::from([127, 0, 0, 1]);
    for n in (0..600).rev() {
        let kind = EventKind::Discover { source: String::new() };
        let events = vec![Event { seq: 0, uptime_ms: 1, kind }];
        let batch = EventBatch { events, ..EventBatch::new("b".to_owned()) };
        let _ = app.change_nodes(|nodes| nodes.take(id(n), addr, batch, Instant::now()));
    }
    let body = nodes::list(State(app)).await.into_body();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let list: Vec<serde_json::Value> = serde_json::from_slice(&body).unwrap();
    let ids: Vec<_> = list.iter().map(|node| node["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, (0..600).map(|n| id(n).to_string()).collect::<Vec<_>>());
}
