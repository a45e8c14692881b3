//! Stored files over HTTP: media types, dates, caching, conditions and ranges (HD-07 to HD-12).
//!
//! In: an operation on a stored file, and the client's conditions. Out: the head and the bytes, or the requested part
//! of them. Nothing here decides which file may be read.

use super::conditions::{Share, Validators};
use super::request::Reject;
use super::response::{Response, http_date};
use super::stored::{self, Content, StoredFile};
use super::{Conditions, Method};
use crate::audit::Summary;
use crate::repo::Repository;
use crate::service::ServeError;
use crate::stream::Sink;
use sha2::{Digest, Sha256};
use std::fs::Metadata;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

/// How many bytes of the hash an entity tag uses: enough to tell versions of generated content apart.
const TAG_BYTES: usize = 16;

/// Answers with the file, a part of it, or 304, 404 or 416.
///
/// # Errors
/// When the file cannot be read, or the client has gone.
pub fn answer(
    file: &StoredFile,
    (method, conditions): (&Method, &Conditions),
    repository: &Repository,
    response: &mut Response<'_>,
    summary: &mut Summary,
) -> Result<(), ServeError> {
    summary.operation = Some("stored");
    let Some(found) = stored::open(file, repository)? else {
        response.reject(&Reject::new(404, "There is no such file."))?;
        summary.outcome = "refused";
        return Ok(());
    };
    let (tag, modified, size) = match &found.content {
        Content::Computed(bytes) => (tag_of_bytes(bytes), None, bytes.len() as u64),
        Content::File(_, metadata) => (tag_of_file(metadata), Some(changed(metadata)), metadata.len()),
    };
    let share = match method {
        // Ranges are defined for GET only.
        Method::Get => conditions.share(&Validators { tag: &tag, modified, size }),
        Method::Head | Method::Post | Method::Other(_) => {
            Conditions { range: None, ..conditions.clone() }.share(&Validators { tag: &tag, modified, size })
        }
    };
    response.describe(found.media, found.caching, false);
    response.header("ETag", tag);
    if let Some(modified) = modified {
        response.header("Last-Modified", http_date(modified));
        response.header("Accept-Ranges", "bytes");
    }
    let range = match share {
        Share::Whole => 0..size,
        Share::Part(range) => {
            response.status(206);
            response.header("Content-Range", format!("bytes {}-{}/{size}", range.start, range.end - 1));
            range
        }
        Share::NotModified => {
            response.status(304);
            response.without_body();
            return Ok(());
        }
        Share::Unsatisfiable => {
            let reject = Reject::new(416, "The file has no such bytes.");
            response.reject(&reject.header("Content-Range", format!("bytes */{size}")))?;
            summary.outcome = "refused";
            return Ok(());
        }
    };
    response.length(range.end - range.start);
    match found.content {
        Content::Computed(bytes) => {
            let part = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
            let part = part.and_then(|(start, end)| bytes.get(start..end));
            response.write_all(part.expect("a range was cut to what is there"))?;
        }
        Content::File(file, _) => response.send_file(&file, range)?,
    }
    Ok(())
}

/// The entity tag of generated content: a hash of its bytes.
fn tag_of_bytes(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let digits: String = hash.iter().take(TAG_BYTES).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{digits}\"")
}

/// The entity tag of a file. Files are replaced, never changed in place, so time and size tell versions apart, equally
/// on every node that serves the file.
fn tag_of_file(metadata: &Metadata) -> String {
    format!("\"{:x}-{:x}-{:x}\"", metadata.mtime(), metadata.mtime_nsec(), metadata.len())
}

fn changed(metadata: &Metadata) -> u64 {
    u64::try_from(metadata.mtime()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Grant, Scope};
    use crate::repo::AccessMode;
    use crate::repo::config::ConfigSources;
    use crate::repo::locate::{self, Place, Search};
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    /// A bare repository: a branch, names for it, tags, a hidden ref.
    struct Repo(PathBuf);

    impl Drop for Repo {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    impl Repo {
        fn new() -> Self {
            let repo = Repo(std::env::temp_dir().join(crate::durable::unique("stored-test-")));
            std::fs::create_dir(&repo.0).expect("the temporary directory can be written");
            repo.git(&["init", "-q", "--bare", "-b", "main"]);
            let tree = repo.git(&["hash-object", "-t", "tree", "-w", "/dev/null"]);
            let commit = repo.git(&["commit-tree", "-m", "one", &tree]);
            for name in ["refs/heads/main", "refs/secret/side", "refs/tags/light"] {
                repo.git(&["update-ref", name, &commit]);
            }
            repo.git(&["tag", "-a", "-m", "v1", "v1", "main"]);
            repo.git(&["tag", "-a", "-m", "again", "v1-again", "v1"]);
            repo.git(&["symbolic-ref", "refs/heads/alias", "refs/heads/main"]);
            repo.git(&["symbolic-ref", "refs/heads/broken", "refs/heads/nothing"]);
            repo.git(&["config", "uploadpack.hideRefs", "refs/secret"]);
            repo
        }

        fn git(&self, arguments: &[&str]) -> String {
            let output = crate::testing::command("git")
                .args(arguments)
                .current_dir(&self.0)
                .env("HOME", &self.0)
                .envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null")])
                .envs([("GIT_AUTHOR_NAME", "A"), ("GIT_AUTHOR_EMAIL", "a@example.com")])
                .envs([("GIT_COMMITTER_NAME", "C"), ("GIT_COMMITTER_EMAIL", "c@example.com")])
                .output()
                .expect("git can be run");
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).expect("git speaks UTF-8 here").trim_end().to_owned()
        }

        /// The status and the body of the answer.
        fn get(&self, file: &StoredFile) -> (u16, Vec<u8>) {
            let config = ConfigSources::default();
            let (mode, check_owner, strict) = (AccessMode::WebServer, false, true);
            let search = Search { mode, config: &config, object_directory: None, check_owner, strict };
            let Place::Here(here) = locate::by_path(&self.0, &search) else { panic!("there is a repository") };
            let context = crate::testing::context(mode, config);
            let repository = Repository::open(*here, Grant::new(Scope::Read, None), context);
            let (mut sent, mut summary) = (Vec::new(), Summary::default());
            let mut response = Response::new(&mut sent, Arc::new(true.into()));
            let conditions = Conditions::default();
            answer(file, (&Method::Get, &conditions), &repository, &mut response, &mut summary)
                .and_then(|()| Ok(response.end()?))
                .expect("nothing is broken");
            let status = response.status_sent();
            let head = sent.windows(4).position(|end| end == b"\r\n\r\n").expect("there is a head");
            (status, sent.split_off(head + 4))
        }

        fn text(&self, file: &StoredFile) -> String {
            let (status, body) = self.get(file);
            assert_eq!(status, 200, "{file:?}");
            String::from_utf8(body).expect("ASCII")
        }

        fn read(&self, path: impl AsRef<Path>) -> Vec<u8> {
            std::fs::read(self.0.join(path)).expect("it is there")
        }
    }

    #[test]
    fn stored_files_are_computed_or_opened() {
        let repo = Repo::new();
        assert_eq!(repo.text(&StoredFile::Head), "ref: refs/heads/main\n");
        assert_eq!(repo.text(&StoredFile::InfoPacks), "\n");
        repo.git(&["update-server-info"]);
        assert_eq!(repo.text(&StoredFile::InfoRefs).as_bytes(), repo.read("info/refs"));
        let id = repo.git(&["rev-parse", "main"]);
        let loose = format!("objects/{}/{}", &id[..2], &id[2..]);
        let object = StoredFile::LooseObject(loose.as_str().into());
        assert_eq!(repo.get(&object), (200, repo.read(loose)));
        repo.git(&["repack", "-q", "-a", "-d"]);
        repo.git(&["update-ref", "--no-deref", "HEAD", "main"]);
        assert_eq!(repo.text(&StoredFile::Head), format!("{id}\n"));
        assert_eq!(repo.get(&object).0, 404);
        let packs = repo.text(&StoredFile::InfoPacks);
        let name = packs.strip_prefix("P ").and_then(|rest| rest.strip_suffix("\n\n")).expect("one pack");
        let pack = format!("objects/pack/{name}");
        assert_eq!(repo.get(&StoredFile::Pack(pack.as_str().into())), (200, repo.read(&pack)));
        assert!(repo.read(&pack).len() > 32);
        for path in ["objects/info/alternates", "objects/../config", "objects//config", "config", "objects/pack"] {
            assert_eq!(repo.get(&StoredFile::Info(path.into())).0, 404, "{path}");
        }
    }
}
