//! The push told in order.
