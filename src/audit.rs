//! One JSON object per request, in the vocabulary of git's trace2 (docs/audit-log.md).
//!
//! In: a [`Summary`], filled as the request proceeds. Out: lines appended to the operator's file, each with one write.
//! A secret never gets here; nothing that fails here fails the request.

use serde::Serialize;
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::PathBuf;

/// The verdict of one ref update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditedUpdate {
    /// The ref's name as sent.
    #[serde(rename = "ref")]
    pub name: String,
    /// The old value in hex; the null id if there is none.
    pub old: String,
    /// The new value in hex; the null id if there is none.
    pub new: String,
    /// `ok`, or the refusal's text.
    pub verdict: String,
}

/// The verdicts of a push.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditedPush {
    /// All changes of refs, and a limited number of refusals.
    pub updates: Vec<AuditedUpdate>,
    /// How many more updates were refused.
    pub refused_more: u64,
}

macro_rules! summary {
    ($( #[doc = $doc:literal] $field:ident : $type:ty, )+) => {
        /// What is recorded about one request.
        #[derive(Debug, Clone, Default)]
        pub struct Summary {
            $( #[doc = $doc] pub $field: $type, )+
            /// The file lines are appended to; without one nothing is written.
            pub log: Option<PathBuf>,
            /// Unix time of the request in milliseconds.
            pub time_ms: u64,
            /// The verdicts of a push.
            pub push: AuditedPush,
        }

        /// Every key of the request's line and its meaning; docs/audit-log.md lists the same.
        pub static KEYS: &[(&str, &str)] = &[ $( (stringify!($field), $doc), )+ ];

        impl Summary {
            fn fields(&self) -> Map<String, Value> {
                let mut map = Map::new();
                $( map.insert(stringify!($field).to_owned(), json!(self.$field)); )+
                map
            }
        }
    };
}

summary! {
    /// The request's id, also in answers and on stderr.
    id: String,
    /// The peer's address.
    remote: Option<String>,
    /// The path before the operation; over pipes the directory as it was named.
    repository: Option<String>,
    /// `advertise`, `ls-refs`, `fetch`, `object-info`, `bundle-uri`, `push`, `probe`, `stored`; null where it did not get that far.
    operation: Option<&'static str>,
    /// The protocol version asked for.
    version: Option<u8>,
    /// The id of the token's record, never its secret.
    token: Option<String>,
    /// `read` or `write`: what the grant allowed.
    scope: Option<&'static str>,
    /// What the client calls itself.
    agent: Option<String>,
    /// The client's session id.
    client_sid: Option<String>,
    /// Objects asked for.
    wants: u64,
    /// Objects the client said it has.
    haves: u64,
    /// The kind of the filter of a partial clone.
    filter: Option<&'static str>,
    /// Where the pack of a fetch came from: `hit`, `follow`, `lead`, `miss`; null where packs are not kept.
    cache: Option<&'static str>,
    /// Objects in the pack sent or received.
    objects: u64,
    /// Of them copied as they were stored.
    reused: u64,
    /// Of them deltas.
    deltas: u64,
    /// Bytes of the request's body.
    bytes_in: u64,
    /// Bytes of the answer's body.
    bytes_out: u64,
    /// Milliseconds from when the environment was read to the end of the answer, waits for the client included.
    ms: u64,
    /// The HTTP status; 0 over pipes.
    status: u16,
    /// `ok` (also where refs were refused), `refused`, `error`, or `aborted` when the client went away.
    outcome: &'static str,
    /// The reason, for the operator.
    error: Option<String>,
    /// What was found damaged or missing, and done without.
    warnings: Vec<String>,
}

impl Summary {
    /// Writes the verdicts of a push, before the client is told.
    pub fn push_decided(&self) {
        if self.log.is_none() {
            return;
        }
        #[derive(Serialize)]
        struct Line<'a> {
            time: String,
            event: &'a str,
            id: &'a str,
            remote: &'a Option<String>,
            repository: &'a Option<String>,
            token: &'a Option<String>,
            updates: &'a [AuditedUpdate],
            #[serde(skip_serializing_if = "Option::is_none")]
            refused_more: Option<u64>,
        }
        let AuditedPush { updates, refused_more } = &self.push;
        // The request's line goes to the same file, and its caller reports what is wrong there.
        let _ = self.append(&Line {
            time: self.time(),
            event: "push",
            id: &self.id,
            remote: &self.remote,
            repository: &self.repository,
            token: &self.token,
            updates,
            refused_more: Some(*refused_more).filter(|more| *more > 0),
        });
    }

    /// Writes the request's line. A line that cannot be written is lost: a full audit log must not stop a fetch.
    ///
    /// # Errors
    /// A sentence for the operator, who may not know that nothing is written.
    pub fn request_done(&self) -> Result<(), String> {
        if self.log.is_none() {
            return Ok(());
        }
        let mut line = Map::new();
        line.insert("time".into(), json!(self.time()));
        line.insert("event".into(), json!("request"));
        line.append(&mut self.fields());
        self.append(&Value::Object(line))
    }

    fn append(&self, line: &impl Serialize) -> Result<(), String> {
        let Some(path) = &self.log else { return Ok(()) };
        let mut text = serde_json::to_string(line).map_err(|error| format!("ARTIFACTS_AUDIT_LOG: {error}"))?;
        text.push('\n');
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| format!("ARTIFACTS_AUDIT_LOG: {}: {error}; the request is not in it", path.display()))
    }

    /// The time in the format of RFC 3339, with milliseconds.
    fn time(&self) -> String {
        let seconds = self.time_ms / 1000;
        let (year, month, day) = crate::calendar::civil(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        let ms = self.time_ms % 1000;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_json_with_every_key_and_nothing_secret() {
        let path = std::env::temp_dir().join(format!("audit-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let update =
            AuditedUpdate { name: "refs/heads/\"a".into(), old: "0".into(), new: "1".into(), verdict: "ok".into() };
        let summary = Summary {
            id: "7f3a90".into(),
            log: Some(path.clone()),
            time_ms: 1_763_638_272_727,
            push: AuditedPush { updates: vec![update], refused_more: 0 },
            ..Default::default()
        };
        summary.push_decided();
        summary.request_done().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["updates"][0]["ref"], "refs/heads/\"a");
        assert!(lines[0].get("refused_more").is_none());
        assert_eq!(lines[1]["time"], "2025-11-20T11:31:12.727Z");
        for (key, _) in KEYS {
            assert!(lines[1].get(key).is_some(), "{key}");
        }
    }
}
