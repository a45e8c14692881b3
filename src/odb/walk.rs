//! Walks over commits: reachable, is_ancestor, generation cut, paint-down.
