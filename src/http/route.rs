//! ROUTES: the table of all URLs.
//!
//! In: method, path and query. Out: repository, target and scope. The path alone determines the repository and the
//! row; the method must fit the row, and the query turns `info/refs` into an advertisement. Nothing is looked up here.

use super::request::{Form, Method, Reject, Request};
use super::stored::StoredFile;
use crate::auth::Scope;
use crate::repo::AccessMode;
use crate::service::{Operation, Service};
use bstr::{BString, ByteSlice};

/// Where a request leads.
#[derive(Debug, PartialEq, Eq)]
pub struct Route {
    /// The path before the part that names the operation; in `tokens` mode always with `.git`, which clients may leave
    /// out.
    pub repository: BString,
    /// What is asked for there.
    pub target: Target,
    /// The scope that needs.
    pub scope: Scope,
    /// `webserver` mode: a service that is not offered, refused only once the repository has been found (HB-16).
    pub unknown_service: Option<BString>,
}

/// What a request asks for in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A file of the dumb protocol.
    Stored(StoredFile),
    /// Something a service does.
    Service(Operation),
}

/// What a row matches at the end of a path.
#[derive(Clone, Copy)]
enum Tail {
    /// Exactly this.
    Is(&'static str),
    /// `objects/xx/` and the rest of an object name in lower-case hex.
    Loose,
    /// `objects/pack/pack-<name>` followed by this suffix.
    Pack(&'static str),
}

struct Row {
    post: bool,
    tail: Tail,
    target: fn(BString) -> Target,
    scope: Scope,
}

const fn get(tail: Tail, target: fn(BString) -> Target) -> Row {
    Row { post: false, tail, target, scope: Scope::Read }
}

const fn post(tail: Tail, target: fn(BString) -> Target, scope: Scope) -> Row {
    Row { post: true, tail, target, scope }
}

fn serve(service: Service) -> Target {
    Target::Service(Operation::Serve(service))
}

/// The first match wins (HB-10 to HB-12). The method is checked after the path, so that a 405 can name the methods
/// allowed. `info/refs` means the stored file here; with a `service` it becomes an advertisement.
#[rustfmt::skip]
static ROUTES: &[Row] = &[
    get (Tail::Is("/HEAD"),                         |_|    Target::Stored(StoredFile::Head)),
    get (Tail::Is("/info/refs"),                    |_|    Target::Stored(StoredFile::InfoRefs)),
    get (Tail::Is("/objects/info/alternates"),      |path| Target::Stored(StoredFile::Info(path))),
    get (Tail::Is("/objects/info/http-alternates"), |path| Target::Stored(StoredFile::Info(path))),
    get (Tail::Is("/objects/info/packs"),           |_|    Target::Stored(StoredFile::InfoPacks)),
    get (Tail::Loose,                               |path| Target::Stored(StoredFile::LooseObject(path))),
    get (Tail::Pack(".pack"),                       |path| Target::Stored(StoredFile::Pack(path))),
    get (Tail::Pack(".idx"),                        |path| Target::Stored(StoredFile::Index(path))),
    post(Tail::Is("/git-upload-pack"),              |_|    serve(Service::UploadPack),  Scope::Read),
    post(Tail::Is("/git-receive-pack"),             |_|    serve(Service::ReceivePack), Scope::Write),
];

impl Tail {
    /// The position where the operation's part begins, with its slash.
    fn find(self, path: &[u8]) -> Option<usize> {
        match self {
            Tail::Is(tail) => path.strip_suffix(tail.as_bytes()).map(<[u8]>::len),
            Tail::Loose => {
                let mut components = path.rsplit(|&byte| byte == b'/');
                let (rest, fan) = (components.next()?, components.next()?);
                let hex = fan.len() == 2 && matches!(rest.len(), 38 | 62) && is_hex(fan) && is_hex(rest);
                path[..path.len() - rest.len() - fan.len() - 1]
                    .strip_suffix(b"/objects/")
                    .map(<[u8]>::len)
                    .filter(|_| hex)
            }
            Tail::Pack(ending) => {
                let stem = path.strip_suffix(ending.as_bytes())?;
                let name = stem.rsplit(|&byte| byte == b'-').next()?;
                let rest = stem[..stem.len() - name.len()].strip_suffix(b"/objects/pack/pack-")?;
                (matches!(name.len(), 40 | 64) && is_hex(name)).then_some(rest.len())
            }
        }
    }
}

fn is_hex(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The row of a path, and the position where the operation's part begins.
fn row_of(path: &[u8]) -> Option<(&'static Row, usize)> {
    ROUTES.iter().find_map(|row| Some((row, row.tail.find(path)?)))
}

impl Route {
    /// Whether a request is a push, by its method and path alone: the edge asks before anything is decided.
    pub fn is_push(request: &Request) -> bool {
        request.method == Method::Post
            && row_of(request.path.bytes()).is_some_and(|(row, _)| row.post && row.scope == Scope::Write)
    }

    /// Finds the route of a request.
    ///
    /// # Errors
    /// 404 where no row matches, 405 (or 400, HB-15) for a wrong method, 400 for a malformed `service` in `tokens` mode.
    pub fn resolve(request: &Request) -> Result<Self, Reject> {
        let path = request.path.bytes();
        let Some((row, at)) = row_of(path) else {
            return Err(nothing(request, path).detail(format!("Request not supported: '{}'", path.escape_ascii())));
        };
        match (&request.method, row.post) {
            (Method::Get | Method::Head, false) | (Method::Post, true) => {}
            _ => return Err(wrong_method(request, row.post)),
        }
        let target = (row.target)(path[at + 1..].into());
        let mut repository = BString::from(&path[..at]);
        let is_whole = repository.ends_with(b".git") || matches!(repository.last(), None | Some(b'/'));
        if request.context.mode == AccessMode::Tokens && !is_whole {
            // Some clients strip the suffix. Every repository's name ends in it, so only this path is possible.
            repository.extend_from_slice(b".git");
        }
        let mut route = Route { repository, target, scope: row.scope, unknown_service: None };
        if route.target == Target::Stored(StoredFile::InfoRefs) {
            let services = match request.context.mode {
                AccessMode::Tokens => literal_service(&request.query)?,
                AccessMode::WebServer | AccessMode::Pipe => last_service(&request.query),
            };
            match services.as_ref().map(|name| name.as_bytes()) {
                None => {}
                Some(b"git-upload-pack") => route.target = Target::Service(Operation::Advertise(Service::UploadPack)),
                Some(b"git-receive-pack") => {
                    route.target = Target::Service(Operation::Advertise(Service::ReceivePack));
                    route.scope = Scope::Write;
                }
                Some(other) => route.unknown_service = Some(other.into()),
            }
        }
        Ok(route)
    }
}

/// The answer for a path that is not served, in the format that the client shows its user.
fn nothing(request: &Request, path: &[u8]) -> Reject {
    if path.contains_str("/info/lfs/") {
        let text =
            "Git LFS is not served here: push the files themselves, or name a server that stores them in lfs.url.";
        Reject::new(404, text).form(Form::Lfs)
    } else if path.ends_with(b"/git-upload-archive") && request.method == Method::Post {
        let text = "git archive is not served here: clone with --depth=1 and make the archive of that.";
        Reject::new(200, text).form(Form::Archive)
    } else {
        let text = "This path names nothing that is served here: a repository's URL ends in \".git\", and git asks for what lies below it.";
        Reject::new(404, text)
    }
}

fn wrong_method(request: &Request, post: bool) -> Reject {
    let allow = if post { "POST" } else { "GET, HEAD" };
    if request.http_1_1 || request.context.mode == AccessMode::Tokens {
        Reject::new(405, format!("This URL takes {allow} only.")).header("Allow", allow)
    } else {
        Reject::new(400, format!("This URL takes {allow} only."))
    }
}

/// Reads `service` in `tokens` mode. It must be given at most once and without escapes, so that no proxy can read the
/// query differently.
fn literal_service(query: &[u8]) -> Result<Option<BString>, Reject> {
    let bad = |what: &str| Err(Reject::new(400, format!("The query's \"service\" {what}.")));
    let mut found: Option<&[u8]> = None;
    for pair in query.split(|&byte| byte == b'&') {
        let (name, value) = name_and_value(pair);
        if name == b"service" {
            if found.replace(value).is_some() {
                return bad("is given more than once");
            }
        } else if super::request_word(name) == b"service" {
            return bad("must be written as it is, without escapes");
        }
    }
    match found {
        Some(value) if !value.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-') => {
            bad("must be written as it is, without escapes")
        }
        found => Ok(found.map(Into::into)),
    }
}

/// Splits at the first `=`; without one the value is empty.
fn name_and_value(pair: &[u8]) -> (&[u8], &[u8]) {
    match pair.iter().position(|&byte| byte == b'=') {
        Some(at) => (&pair[..at], &pair[at + 1..]),
        None => (pair, b""),
    }
}

/// Reads `service` as git does: names and values are decoded, and the last one counts (HB-24).
fn last_service(query: &[u8]) -> Option<BString> {
    query
        .split(|&byte| byte == b'&')
        .filter_map(|pair| {
            let (name, value) = name_and_value(pair);
            (super::request_word(name) == b"service").then(|| super::request_word(value).into())
        })
        .next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(path: &str) -> Option<(String, Target)> {
        row_of(path.as_bytes()).map(|(row, at)| (path[..at].to_owned(), (row.target)(path[at + 1..].into())))
    }

    #[test]
    fn each_url_of_git_has_its_row() {
        let sha1 = "0123456789abcdef0123456789abcdef01234567";
        let sha256 = sha1.to_owned() + "0123456789abcdef01234567";
        let check = |path: &str, expected: Option<Target>| {
            let full = format!("/ns/r.git/{path}");
            assert_eq!(find(&full), expected.map(|target| ("/ns/r.git".to_owned(), target)), "{path}");
        };
        let stored = |file| Some(Target::Stored(file));
        check("HEAD", stored(StoredFile::Head));
        check("info/refs", stored(StoredFile::InfoRefs));
        check("objects/info/packs", stored(StoredFile::InfoPacks));
        check("objects/info/alternates", stored(StoredFile::Info("objects/info/alternates".into())));
        for name in [sha1, &sha256] {
            let loose = format!("objects/{}/{}", &name[..2], &name[2..]);
            check(&loose, stored(StoredFile::LooseObject(loose.as_str().into())));
            let pack = format!("objects/pack/pack-{name}.pack");
            check(&pack, stored(StoredFile::Pack(pack.as_str().into())));
            let index = format!("objects/pack/pack-{name}.idx");
            check(&index, stored(StoredFile::Index(index.as_str().into())));
            check(&format!("objects/pack/pack-{name}.keep"), None);
            check(&format!("objects/pack/pack-{}.pack", name.to_uppercase()), None);
        }
        check("git-upload-pack", Some(serve(Service::UploadPack)));
        check("git-receive-pack", Some(serve(Service::ReceivePack)));
        for nothing in ["", "config", "packed-refs", "refs/heads/main", "git-upload-archive", "xHEAD", "objects/0/1"] {
            check(nothing, None);
        }
    }

    #[test]
    fn a_literal_service_is_named_once_and_without_escapes() {
        let check = |query: &str, expected: Result<Option<&str>, u16>| {
            let got = literal_service(query.as_bytes()).map_err(|reject| reject.status);
            assert_eq!(got, expected.map(|service| service.map(BString::from)), "{query}");
        };
        check("", Ok(None));
        check("service=git-upload-pack", Ok(Some("git-upload-pack")));
        check("a=b&service=git-receive-pack&c", Ok(Some("git-receive-pack")));
        check("service=git-upload-pack&service=git-receive-pack", Err(400));
        check("service=git-upload-pack&service=git-upload-pack", Err(400));
        check("%73ervice=git-receive-pack", Err(400));
        check("service=git-receive%2Dpack", Err(400));
        check("service=", Ok(Some("")));
    }

    #[test]
    fn gits_own_reading_takes_the_last_one_decoded() {
        let check = |query: &str, expected: Option<&str>| {
            assert_eq!(last_service(query.as_bytes()), expected.map(BString::from), "{query}");
        };
        check("service=a&service=git-upload-pack", Some("git-upload-pack"));
        check("s%65rvice=git%2Dupload-pack", Some("git-upload-pack"));
        check("service=a+b", Some("a b"));
        check("other=1", None);
    }
}
