//! Requests to upload-pack: the lines of v0 up to the flush, or the arguments of v2's fetch; rounds of haves.
