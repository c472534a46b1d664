//! What BEP 52 adds to a torrent: `meta version`, `file tree` and `piece layers`.

use bendy::encoding::{Error as EncodeError, SingleItemEncoder};

use super::{Info, MetainfoError};
use crate::bencode::Value;
use crate::hash::Sha256Digest;
use crate::merkle::{BlockTree, Node, TreeError};

/// The only version there is.
pub(super) const META_VERSION: i64 = 2;

const ROOT: &[u8] = b"pieces root";

/// Whether an `info` claims to be one of BEP 52, too. Looked at first: of another version everything
/// may be different.
pub(super) fn announced(info: &Value<'_>) -> Result<bool, MetainfoError> {
    match info.get(b"meta version") {
        None => Ok(false),
        Some(Value::Integer(META_VERSION)) => Ok(true),
        Some(Value::Integer(other)) => Err(MetainfoError::MetaVersion(*other)),
        Some(_) => Err(MetainfoError::Field("meta version")),
    }
}

/// Adds the BEP 52 part to what BEP 3 says, which must be the same content.
pub(super) fn parse(
    plain: Info,
    info: &Value<'_>,
    outer: &Value<'_>,
) -> Result<Info, MetainfoError> {
    let missing = MetainfoError::Field;
    let tree = info.get(b"file tree").ok_or(missing("file tree"))?;
    let (name, entry) = match tree {
        Value::Dict(entries) => match entries.as_slice() {
            [single] => single,
            [] => return Err(missing("file tree")),
            _ => return Err(MetainfoError::MultiFile),
        },
        _ => return Err(missing("file tree")),
    };
    // a folder has entries with names, a file one without
    let file = entry.get(b"").ok_or(MetainfoError::MultiFile)?;
    let length = file.get(b"length").and_then(Value::as_unsigned).ok_or(missing("length"))?;
    if *name != plain.name.as_bytes() {
        return Err(MetainfoError::Contradiction("name"));
    }
    if length != plain.geometry.total() {
        return Err(MetainfoError::Contradiction("length"));
    }
    let wanted = file
        .get(ROOT)
        .and_then(Value::as_bytes)
        .and_then(Node::from_slice)
        .ok_or(missing("pieces root"))?;
    let layer = if plain.geometry.pieces() == 1 {
        vec![wanted]
    } else {
        layer_of(wanted, outer).ok_or(missing("piece layers"))?
    };
    let info = plain.with_tree(layer)?;
    match info.tree().map(BlockTree::root) {
        Some(got) if got != wanted => Err(MetainfoError::Tree(TreeError::Root { wanted, got })),
        _ => Ok(info),
    }
}

fn layer_of(root: Node, outer: &Value<'_>) -> Option<Vec<Node>> {
    let bytes = outer.get(b"piece layers")?.get(root.as_bytes())?.as_bytes()?;
    let (nodes, rest) = bytes.as_chunks::<{ Sha256Digest::LEN }>();
    rest.is_empty().then(|| nodes.iter().copied().map(Sha256Digest).collect())
}

pub(super) fn emit_tree(
    encoder: SingleItemEncoder<'_>,
    info: &Info,
    tree: &BlockTree,
) -> Result<(), EncodeError> {
    encoder.emit_dict(|mut files| {
        files.emit_pair_with(info.name.as_bytes(), |e| {
            e.emit_dict(|mut entry| {
                entry.emit_pair_with(b"", |e| {
                    e.emit_dict(|mut file| {
                        file.emit_pair(b"length", info.geometry.total())?;
                        file.emit_pair_with(ROOT, |e| e.emit_bytes(tree.root().as_bytes()))
                    })
                })
            })
        })
    })
}

/// A file of one piece is not listed: its root says it all.
pub(super) fn emit_layers(
    encoder: SingleItemEncoder<'_>,
    tree: &BlockTree,
) -> Result<(), EncodeError> {
    encoder.emit_dict(|mut files| match tree.layer() {
        [_] => Ok(()),
        layer => {
            let bytes: Vec<u8> = layer.iter().flat_map(|node| node.0).collect();
            files.emit_pair_with(tree.root().as_bytes(), |e| e.emit_bytes(&bytes))
        }
    })
}
