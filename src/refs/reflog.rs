//! Reflogs: which ref gets one (core.logAllRefUpdates), and the line.
