//! Commits by position: from the commit-graph, else parsed.
