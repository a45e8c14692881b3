//! Fetches in git's words of progress, keep-alives and the heartbeat that drives both (PO-10, PO-12, UN-16).
