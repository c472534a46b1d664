//! Who may write: who has the admin's token (`Authorization: Bearer TOKEN`), or a certificate of the admin's.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::*;

/// What a request says of who sent it.
#[derive(Debug)]
pub(super) struct Caller {
    authorization: Option<HeaderValue>,
    transport: Transport,
    local: bool,
    /// Whether a browser sent it for a page: no program says where a request began.
    from_page: bool,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let ends = parts.extensions.get::<Ends>();
        Ok(Self {
            authorization: parts.headers.get(header::AUTHORIZATION).cloned(),
            transport: parts.extensions.get().copied().unwrap_or(Transport::Plain),
            local: ends.is_some_and(|ends| ends.peer.ip().is_loopback()),
            from_page: ["origin", "sec-fetch-site"].iter().any(|h| parts.headers.contains_key(*h)),
        })
    }
}

/// Lets only the admin through.
///
/// # Errors
/// The answer for everybody else; it says how to do it right.
#[expect(clippy::result_large_err, reason = "the answer is the point, and made once")]
pub(super) fn admin(app: &App, caller: &Caller) -> Result<(), Response<Body>> {
    let Some(state) = &app.state else {
        let message = "this bee-tracker keeps no state and takes no orders: start it with --state";
        return Err(problem(StatusCode::FORBIDDEN, message));
    };
    // a browser hands over its certificate for whatever page asks it to
    if caller.from_page {
        app.metrics.unauthorized.add(1);
        let message =
            "orders are not taken from pages in a browser: send them with bee-packer or curl";
        return Err(problem(StatusCode::FORBIDDEN, message));
    }
    let tls_only = app.config.tls.as_ref().is_some_and(|tls| tls.orders_only);
    if tls_only && caller.transport == Transport::Plain && !caller.local {
        app.metrics.unauthorized.add(1);
        let message = "this bee-tracker takes orders over TLS only (orders_only in [tls]): use its https:// address. \
                       If a token was sent, others may have read it: remove the file admin-token and restart";
        return Err(problem(StatusCode::FORBIDDEN, message));
    }
    if caller.transport == (Transport::Tls { certified: true }) {
        return Ok(());
    }
    let given = caller.authorization.as_ref().and_then(|value| value.to_str().ok());
    let token = given.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    if token.is_some_and(|token| state.admin.is(token)) {
        return Ok(());
    }
    app.metrics.unauthorized.add(1);
    let message = match token {
        None => {
            "this needs the admin's token: bee-packer --token-file FILE, where FILE is admin-token \
                 in the state directory of bee-tracker; or, where [tls] has client_ca, a certificate that it \
                 signed: --cert FILE --key FILE at the https:// address"
        }
        Some(_) => {
            "this is not the admin's token; it is in the file admin-token in the state \
                    directory of bee-tracker"
        }
    };
    let mut response = problem(StatusCode::UNAUTHORIZED, message);
    let scheme = HeaderValue::from_static("Bearer");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    Err(response)
}
