//! Who may write: `Authorization: Bearer TOKEN`.

use super::*;

/// Lets only the admin through.
///
/// # Errors
/// The answer for everybody else; it says how to do it right.
#[expect(clippy::result_large_err, reason = "the answer is the point, and made once")]
pub(super) fn admin(app: &App, headers: &HeaderMap) -> Result<(), Response<Body>> {
    let Some(state) = &app.state else {
        let message = "this bee-tracker keeps no state and takes no orders: start it with --state";
        return Err(problem(StatusCode::FORBIDDEN, message));
    };
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
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
                 in the state directory of bee-tracker"
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
