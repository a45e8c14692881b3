//! A request as it arrived, and refusals with an HTTP status.
//!
//! In: what an edge has parsed. Out: a [`Request`], or a [`Reject`]. Nothing here decides whether a request is allowed.

use super::Conditions;
use crate::auth::Credentials;
use crate::repo::Context;
use bstr::BString;
use std::path::PathBuf;

/// A request's method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD: GET without the body.
    Head,
    /// POST.
    Post,
    /// Anything else; no route accepts it.
    Other(String),
}

impl Method {
    /// Parses the name of a method.
    pub fn parse(name: &str) -> Self {
        match name {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            other => Method::Other(other.to_owned()),
        }
    }
}

/// Where the request says the repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestPath {
    /// `PATH_INFO`, below the root.
    Info(BString),
    /// `PATH_TRANSLATED`, without a root (`webserver` mode only).
    Translated(PathBuf),
}

impl RequestPath {
    /// The path's bytes.
    pub fn bytes(&self) -> &[u8] {
        use std::os::unix::ffi::OsStrExt;
        match self {
            RequestPath::Info(path) => path,
            RequestPath::Translated(path) => path.as_os_str().as_bytes(),
        }
    }
}

/// One request.
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path.
    pub path: RequestPath,
    /// The query string, not decoded.
    pub query: BString,
    /// The Content-Type header.
    pub content_type: Option<BString>,
    /// The conditions and ranges that apply to a stored file.
    pub conditions: Conditions,
    /// The credentials in the Authorization header.
    pub credentials: Credentials,
    /// The user whom the web server has authenticated; used in `webserver` mode only.
    pub remote_user: Option<BString>,
    /// Whether `SERVER_PROTOCOL` is exactly HTTP/1.1 (HB-14, HB-15).
    pub http_1_1: bool,
    /// Whether `SERVER_SOFTWARE` names a server other than nginx.
    pub not_behind_nginx: bool,
    /// What the services need to know about the request's environment.
    pub context: Context,
}

/// A refusal with an HTTP status.
#[derive(Debug)]
pub struct Reject {
    /// The status.
    pub status: u16,
    /// A sentence that tells the client what to do: ASCII, and nothing that only the operator may know.
    pub text: String,
    /// The reason for the operator, which the client never sees; without it the operator gets the text.
    pub detail: Option<String>,
    /// Additional header lines: name and value.
    pub headers: Vec<(&'static str, String)>,
    /// The format of the answer's body.
    pub form: Form,
}

/// The format of a refusal: the one that the client shows its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A line of text, which git shows for `info/refs`.
    Text,
    /// JSON for git-lfs, which shows no other format.
    Lfs,
    /// An ERR packet for `git archive`, which shows nothing of an answer whose status is not 200.
    Archive,
}

impl Reject {
    /// A refusal with a status and a sentence for the client.
    pub fn new(status: u16, text: impl Into<String>) -> Self {
        Reject { status, text: text.into(), detail: None, headers: Vec::new(), form: Form::Text }
    }

    /// Adds the reason for the operator.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Sets the format, for a client other than git.
    pub fn form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    /// Adds a header line.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}
