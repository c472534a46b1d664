//! nginx and curl: the image over plain HTTP, from one host to all.

use std::fmt::Display;
use std::path::Path;

use super::{Done, Launch, write};
use crate::error::LabError;
use crate::node::Node;
use crate::process::Cmd;
use crate::tool::Tool;

/// nginx.
pub const NGINX: Tool = Tool::new("nginx", "HTTP to compare with", "nginx-light", "nginx");
/// curl.
pub const CURL: Tool = Tool::new("curl", "fetches over HTTP", "curl", "curl");

/// Port of the server.
const HTTP: u16 = 8080;

/// nginx that serves the files of `folder` (as the lab sees it) on port 8080 of a node.
///
/// # Errors
/// [`LabError::MissingTool`] when it is not installed, [`LabError::File`].
pub fn nginx(node: &Node, folder: &Path) -> Result<Cmd, LabError> {
    let own = node.scratch().join("nginx");
    let config = own.join("nginx.conf");
    write(node, &config, &settings(&own, folder))?;
    Ok(Cmd::new(NGINX.find()?)
        .arg("-p")
        .arg(&own)
        .arg("-e")
        .arg("stderr")
        .arg("-c")
        .arg(config)
        .folder(own))
}

/// curl that fetches a file from the server at this address, to the same name in the node's scratch
/// folder. It ends when it has it.
///
/// # Errors
/// [`LabError::MissingTool`] when it is not installed.
pub fn curl(node: &Node, server: impl Display, file: &str) -> Result<Launch, LabError> {
    let command = Cmd::new(CURL.find()?)
        .args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--output"])
        .arg(node.scratch().join(file))
        .arg(format!("http://{server}:{HTTP}/{file}"));
    Ok(Launch::new(command, Done::exit()))
}

/// As its guide on serving content has it: sendfile with whole packets (`tcp_nopush`), a process per
/// processor, and nothing else to do.
fn settings(own: &Path, folder: &Path) -> String {
    let (own, folder) = (own.display(), folder.display());
    format!(
        "daemon off;\n\
         user root;\n\
         worker_processes auto;\n\
         pid {own}/pid;\n\
         events {{ worker_connections 4096; multi_accept on; }}\n\
         http {{\n\
           access_log off;\n\
           sendfile on;\n\
           tcp_nopush on;\n\
           open_file_cache max=16;\n\
           client_body_temp_path {own}/body;\n\
           proxy_temp_path {own}/proxy;\n\
           fastcgi_temp_path {own}/fastcgi;\n\
           uwsgi_temp_path {own}/uwsgi;\n\
           scgi_temp_path {own}/scgi;\n\
           server {{ listen {HTTP} backlog=4096 reuseport; root {folder}; }}\n\
         }}\n"
    )
}
