//! The one door to zlib; buffers are lent by the caller.
