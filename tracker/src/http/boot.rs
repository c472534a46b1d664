//! `/boot.ipxe` and `/boot/MAC.ipxe`.

use std::time::Instant;

use proto::node_id::NodeId;
use proto::query;
use store::{Channel, RevisionName};

use super::*;
use crate::app::{Notice, lock};
use crate::boot::IMAGE_PORT;
use crate::boot::script::{self, Choice, Site};
use crate::boot::values::Authority;
use crate::nodes::node::NETBOOT;

/// `GET /boot.ipxe[?mac=MAC][&channel=NAME][&image=NAME]`
pub(super) async fn any_node(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    let (mac, choice) = match read_query(&query.unwrap_or_default()) {
        Ok(read) => read,
        Err(message) => return text(StatusCode::BAD_REQUEST, message),
    };
    match mac {
        Some(node) => node_script(&app, ends, &headers, node, &choice),
        None => script(script::any_node(&reached(&headers, ends), &choice)),
    }
}

/// `GET /boot/MAC.ipxe[?channel=NAME][&image=NAME]`
pub(super) async fn one_node(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    headers: HeaderMap,
    Path(file): Path<String>,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    let mac = file.strip_suffix(".ipxe").unwrap_or(&file);
    let node: NodeId = match mac.parse() {
        Ok(node) => node,
        Err(error) => return text(StatusCode::NOT_FOUND, format!("{error}\n")),
    };
    match read_query(&query.unwrap_or_default()) {
        Ok((_, choice)) => node_script(&app, ends, &headers, node, &choice),
        Err(message) => text(StatusCode::BAD_REQUEST, message),
    }
}

fn node_script(
    app: &App,
    ends: Ends,
    headers: &HeaderMap,
    node: NodeId,
    choice: &Choice,
) -> Response<Body> {
    let tracker = reached(headers, ends);
    let config = &app.config;
    let channel = choice.channel.as_ref().unwrap_or(&config.channel);
    let image = choice.image.as_ref().or(config.image.as_ref());
    let offer = match config.store {
        Some(_) => app.catalog().offer_to(node, channel, image),
        None => Err("bee-tracker runs without --store, so it has nothing to boot".to_owned()),
    };
    app.metrics.boot_scripts.add(1);
    if from_firmware(headers) {
        let told = offer.as_ref().map(|offer| &offer.revision).map_err(String::as_str);
        let address = ends.peer.ip();
        lock(&app.nodes).asked(node, address, told, Instant::now());
        app.notify(Notice::Node { node, address, stage: NETBOOT });
    }
    match offer {
        Ok(offer) => {
            let images = config.image_url.clone().unwrap_or_else(|| tracker.base_url(IMAGE_PORT));
            let site = Site { tracker, images, kernel_args: config.kernel_args.clone() };
            script(script::boot(node, &offer, &site, choice))
        }
        Err(reason) => script(script::wait(node, &reason, &tracker, choice)),
    }
}

/// Only a node's firmware begins a boot: an admin who looks at the script does not.
fn from_firmware(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    agent.is_some_and(|agent| agent.to_ascii_lowercase().starts_with("ipxe"))
}

/// The host and port that the node used for us: it certainly reaches those.
fn reached(headers: &HeaderMap, ends: Ends) -> Authority {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.and_then(|host| host.parse().ok()).unwrap_or_else(|| Authority::from(ends.local))
}

fn read_query(query: &str) -> Result<(Option<NodeId>, Choice), String> {
    let (mut mac, mut choice) = (None, Choice::default());
    for (key, value) in query::pairs(query) {
        let value = query::decode(value)
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| format!("{key} is not text\n"))?;
        match key {
            "mac" => mac = Some(value.parse().map_err(|e| format!("{e}\n"))?),
            "channel" => choice.channel = Some(Channel::new(value).map_err(|e| format!("{e}\n"))?),
            "image" => choice.image = Some(RevisionName::new(value).map_err(|e| format!("{e}\n"))?),
            _ => {}
        }
    }
    Ok((mac, choice))
}

fn script(body: String) -> Response<Body> {
    text(StatusCode::OK, body)
}
