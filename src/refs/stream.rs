//! All refs in order: packed-refs bytes merged with loose ones, prefixes found by binary search, peeled as stored.
