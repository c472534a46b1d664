//! `/boot.ipxe` and `/boot/MAC.ipxe`.

use std::time::Instant;

use proto::node_id::NodeId;
use proto::query;
use store::{Channel, RevisionName};

use super::*;
use crate::app::{Notice, lock};
use crate::boot::IMAGE_PORT;
use crate::boot::script::{self, Choice, Mirror, Offer, Site};
use crate::boot::values::{Authority, KernelArgs};
use crate::config::{Mirrors, NothingToBoot};
use crate::inventory::BootFrom;
use crate::nodes::mirror::Asker;
use crate::nodes::node::{NETBOOT, Told};

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
    let address = ends.peer.ip();
    let macs = macs(app, node);
    let plan = Plan::of(app, node, &macs, choice);
    app.metrics.boot_scripts.add(1);
    // a script is no secret, and whoever asks may be right all the same; but nothing follows from the question
    let another = app.neighbours.contradict(address, &macs, Instant::now());
    if let Some(card) = another {
        tracing::warn!(%node, %address, %card, "another machine asks for this node's boot script: it gets no boot token");
    } else if from_firmware(headers) {
        let told = match &plan {
            Plan::Boot(offer, _) => Told::Boot(&offer.revision),
            Plan::Wait(reason) => Told::Wait(reason),
            Plan::Disk(_) => Told::Disk,
        };
        let now = Instant::now();
        // a boot waits for no disk: what is lost here is told again by the node's first event
        let (stage, _) = app.change_nodes(|nodes| {
            nodes.asked(node, address, told, now);
            nodes.get(node).map_or(NETBOOT, |node| node.stage)
        });
        app.notify(Notice::Node { node, address, stage });
    }
    match plan {
        Plan::Boot(offer, kernel_args) => {
            let image_url = app.config.image_url.clone();
            let images = image_url.unwrap_or_else(|| tracker.base_url(IMAGE_PORT));
            let token = another.is_none().then(|| app.tokens.issue(node));
            let mirror = mirror(app, Asker { node, addr: address }, &offer);
            script(script::boot(
                node,
                &offer,
                &Site { tracker, images, mirror, kernel_args, token },
                choice,
            ))
        }
        Plan::Wait(reason) => script(script::wait(node, &reason, &tracker, choice)),
        Plan::Disk(reason) => script(script::disk(node, &reason)),
    }
}

/// A running node that has kernel and initrd, if nodes are sent to those.
fn mirror(app: &App, asker: Asker, offer: &Offer) -> Option<Mirror> {
    if app.config.mirrors == Mirrors::Off {
        return None;
    }
    let found = lock(&app.nodes).mirrors(asker, &offer.revision, 1, Instant::now());
    let base = found.first().copied()?.into();
    Some(Mirror { base, signatures: app.config.imgverify.clone() })
}

/// What a node is to do.
enum Plan {
    Boot(Offer, KernelArgs),
    Wait(String),
    Disk(String),
}

impl Plan {
    /// What the node was told, else what the inventory says of it, else its channel.
    fn of(app: &App, node: NodeId, macs: &[NodeId], choice: &Choice) -> Self {
        let config = &app.config;
        let inventory = app.inventory();
        let entry = inventory.of(node);
        let told = lock(&app.assignments).find(macs);
        if told.is_none() && entry.is_some_and(|entry| entry.boot == BootFrom::Disk) {
            return Self::Disk("the inventory says so".to_owned());
        }
        let offer = match &told {
            Some(told) => app.catalog().offer_told(&told.revision),
            None if config.store.is_none() => {
                Err("bee-tracker runs without --store, so it has nothing to boot".to_owned())
            }
            None => {
                let listed = entry.and_then(|entry| entry.channel.as_ref());
                let channel = listed.or(choice.channel.as_ref()).unwrap_or(&config.channel);
                let listed = entry.and_then(|entry| entry.image.as_ref());
                let image = listed.or(choice.image.as_ref()).or(config.image.as_ref());
                app.catalog().offer(channel, image)
            }
        };
        let none = KernelArgs::default();
        let args = KernelArgs::joined(&[
            &config.kernel_args,
            entry.map_or(&none, |entry| &entry.kernel_args),
            told.as_ref().map_or(&none, |told| &told.kernel_args),
        ]);
        match (offer, args) {
            (Ok(offer), Ok(args)) => Self::Boot(offer, args),
            (Ok(_), Err(error)) => Self::Wait(error.to_string()),
            // a node that was told to boot something is not to boot something else
            (Err(reason), _) => match config.nothing_to_boot {
                NothingToBoot::Disk if told.is_none() => Self::Disk(reason),
                _ => Self::Wait(reason),
            },
        }
    }
}

/// All addresses that are known to be a node's.
fn macs(app: &App, node: NodeId) -> Vec<NodeId> {
    let inventory = app.inventory();
    let mut macs = vec![node];
    macs.extend(inventory.of(node).map(|entry| entry.macs.as_slice()).unwrap_or_default());
    macs.extend(lock(&app.nodes).get(node).map(|node| node.macs.clone()).unwrap_or_default());
    macs
}

/// What a node would be told now, for people.
pub(super) fn outlook(app: &App, node: NodeId) -> String {
    match Plan::of(app, node, &macs(app, node), &Choice::default()) {
        Plan::Boot(offer, _) => offer.revision.to_string(),
        Plan::Wait(reason) => format!("nothing, it waits: {reason}"),
        Plan::Disk(reason) => format!("its disk: {reason}"),
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
