//! The named limits on everything that comes from outside.

/// The limits of one request.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a request as it arrives, packs excluded (`http.maxRequestBuffer`; 10 MiB as in git).
    pub request_bytes: u64,
    /// Whether the operator has set `request_bytes` (GIT_HTTP_MAX_REQUEST_BUFFER), so that the repository's owner
    /// cannot change it (BO-09).
    pub request_bytes_fixed: bool,
    /// Bytes of a request after inflation, packs excluded.
    pub inflated_bytes: u64,
    /// Lines of a request, up to the pack if there is one.
    pub lines: u64,
    /// `want` lines.
    pub wants: u64,
    /// `ref-prefix` lines that are kept; at 65536 or more git ignores them and lists everything (LS-06).
    pub prefixes: u64,
    /// `shallow` lines.
    pub shallows: u64,
    /// Distinct refs in `deepen-not` lines, each of which is looked up.
    pub deepen_nots: u64,
    /// Filters in one `filter` line, including the parts of combinations.
    pub filter_parts: u64,
    /// Ref updates of one push (`artifacts.maxRefUpdates`).
    pub ref_updates: u64,
    /// Push options (`artifacts.maxPushOptions`).
    pub push_options: u64,
    /// Bytes of a refused body that are read so that the answer is not lost.
    pub drain_bytes: u64,
    /// Seconds for which a refused body is read.
    pub drain_s: u64,
    /// The same before access has been granted.
    pub strangers_drain_s: u64,
    /// Seconds without a byte after which an open standard input is given up.
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
    /// The smallest `request_bytes`, whatever is configured (BO-09).
    const REQUEST_BYTES_MIN: u64 = 8192;

    /// Sets the limit from GIT_HTTP_MAX_REQUEST_BUFFER, in bytes.
    pub fn request_bytes_from_operator(&mut self, bytes: u64) {
        self.request_bytes = bytes.max(Self::REQUEST_BYTES_MIN);
        self.request_bytes_fixed = true;
    }

    /// Sets the limit from http.maxRequestBuffer, in bytes, unless the operator has set it.
    pub fn request_bytes_from_owner(&mut self, bytes: u64) {
        if !self.request_bytes_fixed {
            self.request_bytes = bytes.max(Self::REQUEST_BYTES_MIN);
        }
    }
}
