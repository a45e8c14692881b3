//! Everything from outside has a limit with a name.

/// What one request may ask of us.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a request as it arrives, packs apart (`http.maxRequestBuffer`, 10 MiB as git).
    pub request_bytes: u64,
    /// Whether the operator set `request_bytes` (GIT_HTTP_MAX_REQUEST_BUFFER), which the owner cannot change (BO-09).
    pub request_bytes_fixed: bool,
    /// Bytes of a request after inflation, packs apart.
    pub inflated_bytes: u64,
    /// Lines of one request before a pack.
    pub lines: u64,
    /// `want` lines.
    pub wants: u64,
    /// `ref-prefix` lines that are kept; with 65536 or more git lists everything (LS-06).
    pub prefixes: u64,
    /// `shallow` lines.
    pub shallows: u64,
    /// Refs of `deepen-not` lines, each looked up.
    pub deepen_nots: u64,
    /// Filters of one `filter` line, parts of combinations among them.
    pub filter_parts: u64,
    /// Ref updates of one push (`artifacts.maxRefUpdates`).
    pub ref_updates: u64,
    /// Push options (`artifacts.maxPushOptions`).
    pub push_options: u64,
    /// Bytes of a refused body that are read so that the answer is not lost.
    pub drain_bytes: u64,
    /// For how many seconds.
    pub drain_s: u64,
    /// For how many where nobody has shown that he may be here.
    pub strangers_drain_s: u64,
    /// Seconds an open, silent stdin is waited for.
    pub silence_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            request_bytes: 10 << 20,
            request_bytes_fixed: false,
            inflated_bytes: 128 << 20,
            lines: 2_000_000,
            wants: 1_000_000,
            prefixes: 65_536,
            shallows: 1_000_000,
            deepen_nots: 1_000,
            filter_parts: 64,
            ref_updates: 100_000,
            push_options: 1_000,
            drain_bytes: 16 << 30,
            drain_s: 600,
            strangers_drain_s: 10,
            silence_s: 600,
        }
    }
}

impl Limits {
    /// The least a request may have, whatever is configured (BO-09).
    const REQUEST_BYTES_MIN: u64 = 8192;

    /// GIT_HTTP_MAX_REQUEST_BUFFER, in bytes.
    pub fn request_bytes_from_operator(&mut self, bytes: u64) {
        self.request_bytes = bytes.max(Self::REQUEST_BYTES_MIN);
        self.request_bytes_fixed = true;
    }

    /// http.maxRequestBuffer, in bytes.
    pub fn request_bytes_from_owner(&mut self, bytes: u64) {
        if !self.request_bytes_fixed {
            self.request_bytes = bytes.max(Self::REQUEST_BYTES_MIN);
        }
    }
}
