//! Inputs that the fuzz targets (tests/fuzz) found worth keeping, run again.

#[path = "../fuzz/harness.rs"]
mod harness;

use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut inputs: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() >= 5, "{} is almost empty", folder.display());
    for input in inputs {
        let data = std::fs::read(&input).unwrap();
        let outcome = std::panic::catch_unwind(|| run(&data));
        assert!(outcome.is_ok(), "{} fails", input.display());
    }
}

#[test]
fn receive_commands_of_the_corpus_are_understood_or_refused() {
    replay("receive_commands", harness::receive_commands);
}

#[test]
fn upload_requests_of_the_corpus_say_the_same_in_pieces() {
    replay("upload_requests", harness::upload_requests);
}

#[test]
fn push_certificates_of_the_corpus_lose_no_byte() {
    replay("push_certificates", harness::push_certificates);
}

#[test]
fn packs_of_the_corpus_are_stored_as_what_they_are_or_refused() {
    replay("pack_index", harness::pack_index);
}

#[test]
fn deltas_of_the_corpus_make_what_their_instructions_say() {
    replay("deltas", harness::deltas);
}

#[test]
fn streams_of_the_corpus_are_inflated_as_zlib_would_or_refused() {
    replay("inflate", harness::inflate);
}

#[test]
fn objects_of_the_corpus_are_checked_without_harm() {
    replay("fsck", harness::fsck);
}

#[test]
fn reftables_of_the_corpus_are_read_or_refused() {
    replay("reftable", harness::reftable);
}
