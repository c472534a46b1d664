//! `GET /api/v1/openapi.json`: the API, described for machines (OpenAPI 3.1).
//!
//! The document is written by hand in `docs/`. Tests compare its paths with the routes; `cargo xtask
//! api-test` lets schemathesis compare what it says of answers with the answers.

use super::*;

/// The document.
pub(super) const DOCUMENT: &str = include_str!("../../../docs/openapi.json");

/// `GET /api/v1/openapi.json`
pub(super) async fn document() -> Response<Body> {
    answer(StatusCode::OK, "application/json", DOCUMENT)
}
