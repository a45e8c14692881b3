//! One JSON object per request, in the words of git's trace2 (docs/audit-log.md).

/// What is written about one request. Filled in as it goes.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "docs/audit-log.md describes each key; a test holds the two together")]
pub struct Summary {
    pub id: String,
    pub remote: Option<String>,
    pub repository: Option<String>,
    pub operation: Option<&'static str>,
    pub version: Option<u8>,
    pub token: Option<String>,
    pub scope: Option<&'static str>,
    pub agent: Option<String>,
    pub client_sid: Option<String>,
    pub wants: u64,
    pub haves: u64,
    pub objects: u64,
    pub reused: u64,
    pub deltas: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub status: u16,
    pub outcome: &'static str,
    pub error: Option<String>,
    /// The verdicts of a push, written as a line of their own before the client hears them: ref, old, new, verdict.
    pub updates: Vec<(String, String, String, String)>,
}
