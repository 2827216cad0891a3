//! The handler of HTTP requests.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::assets;
use super::body::Body;
use super::guard::{Guard, Refusal, random_text};
use super::prometheus;
use super::report;
use super::source::{Filter, Source, TaskAction};
use super::stream::Stream;

/// The largest `Content-Length` of a request. No request of the pages has a body.
const LARGEST_BODY: u64 = 4096;

const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; object-src 'none'";

/// Headers of every response.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Handles the requests of a dashboard on any HTTP server; created by
/// [`DashboardBuilder::service`](super::DashboardBuilder::service).
///
/// It's cheap to clone. It doesn't keep the client alive: after the client is dropped, the dashboard shows the
/// final state.
///
/// ```
/// let client = ensue::Client::new();
/// let service = client.dashboard().allow_host("tasks.example.org").service()?;
/// let request = hyper::Request::get("/health").header("host", "tasks.example.org");
/// let response = service.handle(&request.body(()).unwrap());
/// assert_eq!(response.status(), 200);
/// # Ok::<_, std::io::Error>(())
/// ```
///
/// All URLs in the pages are relative, so the service can be mounted below a path. In an axum application,
/// with the dashboard at `/dashboard/` (the slash at the end is required):
///
/// ```text
/// let pages = Router::new().fallback(async move |request: Request| service.handle(&request));
/// let app = Router::new().nest("/dashboard/", pages);
/// ```
#[derive(Clone, Debug)]
pub struct Service {
    source: Source,
    guard: Arc<Guard>,
    readers: Arc<AtomicUsize>,
}

/// A response, or the one that replaces it after an error.
type Answer = Result<Response<Body>, Box<Response<Body>>>;

impl Service {
    pub(super) fn new(source: Source, guard: Guard) -> Self {
        Self { source, guard: Arc::new(guard), readers: Arc::default() }
    }

    /// Returns the token that a request needs, in the header `X-Ensue-Token`, to cancel or retry a task. The
    /// pages read it from the fragment of their URL, `#token=…`.
    pub fn token(&self) -> &str {
        self.guard.token().as_str()
    }

    /// Returns the response to a request, whose body is ignored.
    ///
    /// This doesn't block. The body of the response to `stream` has no end: the server has to drop it when the
    /// connection closes.
    pub fn handle<B>(&self, request: &Request<B>) -> Response<Body> {
        let mut response = self.answer(request).unwrap_or_else(|response| *response);
        let headers = response.headers_mut();
        for (name, value) in HEADERS {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        }
        headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(POLICY));
        response
    }

    fn answer<B>(&self, request: &Request<B>) -> Answer {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        self.guard.admit(method, uri, headers).map_err(refused)?;
        let length = headers.get(header::CONTENT_LENGTH).map(HeaderValue::as_bytes);
        let length = length.and_then(|length| std::str::from_utf8(length).ok()?.parse().ok());
        if length.is_some_and(|length: u64| length > LARGEST_BODY) {
            let text = "The request body is too large: requests to the dashboard need none.";
            return Err(failure(StatusCode::PAYLOAD_TOO_LARGE, text));
        }
        let path = uri.path().strip_prefix('/').unwrap_or(uri.path());
        if let Some((number, action)) = path.strip_prefix("api/task/").and_then(parse_action) {
            require_method(method, &[Method::POST], "POST")?;
            self.guard.permit(headers).map_err(refused)?;
            return self.act(number, action);
        }
        require_method(method, &[Method::GET, Method::HEAD], "GET, HEAD")?;
        match path {
            "stream" => self.stream(method),
            "metrics" => {
                let content_type = "text/plain; version=0.0.4; charset=utf-8";
                Ok(found(content_type, prometheus::text(&self.source)))
            }
            "health" => Ok(found(TEXT, "ok\n".to_owned())),
            "graph.dot" => {
                Ok(found("text/vnd.graphviz; charset=utf-8", self.source.graph().to_dot()))
            }
            "graph.svg" => Ok(found("image/svg+xml", self.source.graph().to_svg())),
            "report.html" => self.report(),
            "api/tasks" => {
                let filter = Filter::from_query(uri.query().unwrap_or_default())
                    .map_err(|text| failure(StatusCode::BAD_REQUEST, &text))?;
                Ok(found(JSON, self.source.tasks(&filter)))
            }
            _ => match path.strip_prefix("api/task/").map(str::parse) {
                Some(Ok(number)) => self.task(number),
                Some(Err(_)) => Err(unknown()),
                None => {
                    let asset = assets::find(path).ok_or_else(unknown)?;
                    Ok(found(asset.content_type, asset.text))
                }
            },
        }
    }

    fn stream(&self, method: &Method) -> Answer {
        let busy = || {
            let mut response = failure(
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many pages of the dashboard are open. Close one of them.",
            );
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            response
        };
        let content_type = "text/event-stream";
        if method == Method::HEAD {
            return Ok(found(content_type, ""));
        }
        let stream = Stream::open(&self.source, &self.readers).ok_or_else(busy)?;
        Ok(answer(StatusCode::OK, content_type, Body::stream(stream)))
    }

    fn task(&self, number: u64) -> Answer {
        let task = self.source.task(number).ok_or_else(unknown)?;
        Ok(found(JSON, task))
    }

    fn act(&self, number: u64, action: TaskAction) -> Answer {
        let done = self.source.act(number, action).ok_or_else(unknown)?;
        done.map(|text| found(TEXT, text)).map_err(|text| failure(StatusCode::CONFLICT, text))
    }

    fn report(&self) -> Answer {
        let failed = |_| {
            failure(
                StatusCode::INTERNAL_SERVER_ERROR,
                "The system has no random numbers for the report.",
            )
        };
        let nonce = random_text().map_err(failed)?;
        let mut response = found("text/html; charset=utf-8", report::html(&self.source, &nonce));
        let policy = assets::policy_of_file(&nonce) + "; frame-ancestors 'none'";
        if let Ok(policy) = HeaderValue::try_from(policy) {
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        let name = HeaderValue::from_static("attachment; filename=\"report.html\"");
        response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
        Ok(response)
    }
}

/// Parses `17/cancel` and `17/retry`.
fn parse_action(path: &str) -> Option<(u64, TaskAction)> {
    let (number, action) = path.split_once('/')?;
    let action = match action {
        "cancel" => TaskAction::Cancel,
        "retry" => TaskAction::Retry,
        _ => return None,
    };
    Some((number.parse().ok()?, action))
}

fn require_method(
    method: &Method,
    allowed: &[Method],
    names: &'static str,
) -> Result<(), Box<Response<Body>>> {
    if allowed.contains(method) {
        return Ok(());
    }
    let mut response =
        failure(StatusCode::METHOD_NOT_ALLOWED, &format!("Use {names} for this URL."));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(names));
    Err(response)
}

fn refused(refusal: Refusal) -> Box<Response<Body>> {
    let status = match refusal {
        Refusal::NoHost => StatusCode::BAD_REQUEST,
        _ => StatusCode::FORBIDDEN,
    };
    failure(status, refusal.text())
}

fn unknown() -> Box<Response<Body>> {
    failure(StatusCode::NOT_FOUND, "Not found.")
}

fn failure(status: StatusCode, text: &str) -> Box<Response<Body>> {
    Box::new(answer(status, TEXT, format!("{text}\n")))
}

fn found(content_type: &'static str, text: impl Into<Body>) -> Response<Body> {
    answer(StatusCode::OK, content_type, text)
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
