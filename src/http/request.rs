//! A request as it arrived, and the refusals that are HTTP statuses.

use super::Conditions;
use crate::auth::Credentials;
use crate::repo::Context;
use bstr::BString;
use std::path::PathBuf;

/// A request's method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// GET without the body
    Head,
    /// POST
    Post,
    /// Anything else: no route takes it.
    Other(String),
}

impl Method {
    /// The method of that name.
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
    /// Its bytes.
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
    /// GET, HEAD, POST.
    pub method: Method,
    /// The path.
    pub path: RequestPath,
    /// The query as it came.
    pub query: BString,
    /// The type of the body.
    pub content_type: Option<BString>,
    /// What the client has already of a stored file.
    pub conditions: Conditions,
    /// What Authorization said.
    pub credentials: Credentials,
    /// Whom the web server says it has authenticated; looked at in `webserver` mode only.
    pub remote_user: Option<BString>,
    /// `SERVER_PROTOCOL` is exactly HTTP/1.1 (HB-14, HB-15).
    pub http_1_1: bool,
    /// `SERVER_SOFTWARE` names another server than nginx.
    pub not_behind_nginx: bool,
    /// What the services need of the surroundings.
    pub context: Context,
}

/// A refusal that is an HTTP status.
#[derive(Debug)]
pub struct Reject {
    /// The status.
    pub status: u16,
    /// A sentence for the client that says what to do; ASCII, without anything only the operator may know.
    pub text: String,
    /// What only the operator may know, for stderr; where it is missing the text stands there.
    pub detail: Option<String>,
    /// More header lines: name and value.
    pub headers: Vec<(&'static str, String)>,
    /// What the client reads.
    pub form: Form,
}

/// How a refusal is written: in what its client shows to the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A line of text, which git shows for `info/refs`.
    Text,
    /// JSON for git-lfs, which shows nothing of other answers.
    Lfs,
    /// An ERR packet for `git archive`, which shows nothing of an answer that is not 200.
    Archive,
}

impl Reject {
    /// A refusal with a sentence.
    pub fn new(status: u16, text: impl Into<String>) -> Self {
        Reject { status, text: text.into(), detail: None, headers: Vec::new(), form: Form::Text }
    }

    /// The same, with what the operator should read.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The same, for another client than git.
    pub fn form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    /// The same, with one more header line.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}
