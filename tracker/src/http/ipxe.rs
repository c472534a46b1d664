//! `/ipxe/…`: iPXE's own programs, for UEFI firmware that boots by HTTP.

use std::path::PathBuf;

use super::*;

/// Where distributions put them.
const FOLDERS: [&str; 3] = ["/usr/lib/ipxe", "/usr/share/ipxe", "/boot/ipxe"];

/// What is served, under which name it may lie there (the second is Fedora's), and nothing else.
const PROGRAMS: [(&str, &[&str], &str); 3] = [
    ("ipxe.efi", &["ipxe.efi", "ipxe-x86_64.efi"], "application/efi"),
    ("snponly.efi", &["snponly.efi", "ipxe-snponly-x86_64.efi"], "application/efi"),
    ("undionly.kpxe", &["undionly.kpxe"], "application/octet-stream"),
];

/// Largest program, in bytes: they have one or two MiB.
const MAX_PROGRAM: u64 = 16 << 20;

/// `GET /ipxe/FILE`
pub(super) async fn program(
    State(app): State<Arc<App>>,
    Path(file): Path<String>,
) -> Response<Body> {
    let Some((name, names, kind)) = PROGRAMS.iter().find(|(name, ..)| *name == file) else {
        let names: Vec<_> = PROGRAMS.iter().map(|(name, ..)| *name).collect();
        let message = format!("only {} are served here\n", names.join(", "));
        return text(StatusCode::NOT_FOUND, message);
    };
    let folders = match &app.config.ipxe {
        Some(folder) => vec![folder.clone()],
        None => FOLDERS.iter().map(PathBuf::from).collect(),
    };
    let found = tokio::task::spawn_blocking(move || {
        let places = folders.iter().flat_map(|dir| names.iter().map(|name| dir.join(name)));
        let small = |path: &PathBuf| {
            path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_PROGRAM)
        };
        places.into_iter().find(small).and_then(|path| std::fs::read(path).ok())
    });
    match found.await.ok().flatten() {
        Some(bytes) => answer(StatusCode::OK, kind, bytes),
        None => {
            let message = format!(
                "{name} is not on this host: install iPXE (Debian: ipxe; Fedora: ipxe-bootimgs-x86), or \
                 name its folder with bee-tracker --ipxe\n"
            );
            text(StatusCode::NOT_FOUND, message)
        }
    }
}
