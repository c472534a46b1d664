//! Every path that is answered, as a table: the server is made from it, and what describes the API to
//! machines (`docs/openapi.json`) is compared with it.

use axum::Router;
use axum::routing::{MethodRouter, get, post};

use super::*;

/// One path and method.
struct Route {
    path: &'static str,
    /// `get` or `post`.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the comparison with the description"))]
    method: &'static str,
    handler: MethodRouter<Arc<App>>,
}

fn table() -> Vec<Route> {
    let read = |path, handler| Route { path, method: "get", handler };
    let write = |path, handler| Route { path, method: "post", handler };
    vec![
        read("/", get(page::fleet)),
        read("/nodes", get(page::nodes)),
        read("/nodes/{id}", get(page::node)),
        read("/swarm", get(page::swarm)),
        read("/images", get(page::images)),
        read("/page.js", get(page::script)),
        read("/icon.svg", get(page::icon)),
        read("/announce", get(announce::announce)),
        read("/scrape", get(announce::scrape)),
        read("/boot.ipxe", get(boot::any_node)),
        read("/boot/{file}", get(boot::one_node)),
        read("/ipxe/{file}", get(ipxe::program)),
        read("/api/v1/openapi.json", get(openapi::document)),
        read("/api/v1/stream", get(stream::stream)),
        read("/api/v1/events", get(lines::events)),
        read("/api/v1/nodes", get(nodes::list)),
        read("/api/v1/nodes/{id}", get(nodes::one)),
        read("/api/v1/stalled", get(nodes::stalled)),
        write("/api/v1/nodes/{id}/events", post(events::events)),
        read(proto::assign::ASSIGNMENTS_PATH, get(assign::list)),
        write(proto::assign::ASSIGN_PATH, post(assign::assign)),
        write(proto::assign::UNASSIGN_PATH, post(assign::unassign)),
        read(proto::rollout::ROLLOUTS_PATH, get(rollout::list)),
        write(proto::rollout::ROLLOUTS_PATH, post(rollout::start)),
        read("/api/v1/rollouts/{id}", get(rollout::one)),
        write("/api/v1/rollouts/{id}/stop", post(rollout::stop)),
        write("/api/v1/rollouts/{id}/resume", post(rollout::resume)),
        read("/reimage", get(page::rollouts)),
        read("/api/v1/history", get(assign::history)),
        read("/api/v1/swarm", get(swarm::swarm)),
        read("/api/v1/exchanges", get(swarm::exchanges)),
        read(proto::mirrors::MIRRORS_PATH, get(mirrors::mirrors)),
        read(proto::usage::USAGE_PATH, get(usage::usage)),
        read("/healthz", get(metrics::healthz)),
        read("/metrics", get(metrics::metrics)),
    ]
}

/// The server's answer to everything.
pub(super) fn router(app: Arc<App>) -> Router {
    let all = table().into_iter();
    let routes = all.fold(Router::new(), |router, route| router.route(route.path, route.handler));
    routes.fallback(not_found).method_not_allowed_fallback(not_so).with_state(app)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_description_has_every_route_and_no_other() {
        let document: serde_json::Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                if method == "parameters" {
                    continue;
                }
                assert!(operation["operationId"].is_string(), "{method} {path} has no operationId");
                assert!(operation["summary"].is_string(), "{method} {path} has no summary");
                let answers = operation["responses"].as_object().unwrap();
                assert!(
                    answers.contains_key("200") || answers.contains_key("204"),
                    "{method} {path}"
                );
                assert!(answers.contains_key("429"), "{method} {path}: anybody may ask too often");
                if let Some(ways) = operation["security"].as_array() {
                    let ways: Vec<_> =
                        ways.iter().flat_map(|w| w.as_object().unwrap().keys()).collect();
                    assert_eq!(ways, ["adminToken", "adminCertificate"], "{method} {path}");
                }
                described.insert((path.clone(), method.clone()));
            }
        }
        let routes = table();
        let served: BTreeSet<_> =
            routes.iter().map(|r| (r.path.to_owned(), r.method.to_owned())).collect();
        assert_eq!(served.len(), routes.len(), "a route is there twice");
        assert_eq!(described, served);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document: serde_json::Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
        let mut found = 0;
        let mut todo = vec![&document];
        while let Some(value) = todo.pop() {
            match value {
                serde_json::Value::Object(fields) => {
                    if let Some(to) = fields.get("$ref").and_then(|to| to.as_str()) {
                        let pointer = to.strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{to} leads nowhere");
                        found += 1;
                    }
                    todo.extend(fields.values());
                }
                serde_json::Value::Array(values) => todo.extend(values),
                _ => {}
            }
        }
        assert!(found > 20);
    }
}
