//! Packs made by the operator's command (git-config, uploadpack.packObjectsHook; PO-18 to PO-20).
//!
//! In: what a fetch is to receive. Out: the command's output as it comes; its standard error goes to the user. The
//! command is called as git calls it, with the words of a pack-objects command line appended; what it does with them is
//! never checked.

use super::progress::HeldBack;
use crate::children::Ended;
use crate::odb::ids::IdSet;
use crate::pack::PackStats;
use crate::protocol::upload::UploadRequest;
use crate::repo::Repository;
use crate::repo::hooks::{self, word};
use crate::stream::{self, Pulse, Sink};
use anyhow::{anyhow, ensure};
use bstr::BStr;
use gix_hash::ObjectId;
use std::ffi::OsString;
use std::io::{self, Write};

/// What is to be packed.
pub struct Order<'a> {
    /// How the client wants it.
    pub request: &'a UploadRequest,
    /// Commits that have no parents in this pack.
    pub ends: IdSet,
    /// What is wanted.
    pub wants: &'a [ObjectId],
    /// What the client has.
    pub common: &'a [ObjectId],
}

/// Runs the command and passes its pack on. The last byte is held back until the command has ended successfully
/// (PO-14).
///
/// # Errors
/// When the command cannot be run, fails, or writes something other than a pack; when the client has gone.
pub fn make(
    repository: &Repository,
    command: &BStr,
    order: &Order<'_>,
    held: &mut HeldBack<'_, '_>,
) -> anyhow::Result<PackStats> {
    let mut made = PassingPack { held, bytes: 0, head: [0; HEAD] };
    let arguments = arguments(order, shows_all(repository));
    let ended = hooks::make_pack(repository, command, arguments, &mut order.lines(), &mut made)?;
    match (ended, repository.context.timeout) {
        (Ended::Status(0), _) => {}
        (Ended::Status(status), _) => return Err(anyhow!("uploadpack.packObjectsHook ended with status {status}")),
        (Ended::Signal(signal), _) => return Err(anyhow!("uploadpack.packObjectsHook was ended by signal {signal}")),
        (Ended::Late, time) => return Err(stream::out_of_time(time.unwrap_or_default()).into()),
    }
    ensure!(made.head.starts_with(b"PACK"), "uploadpack.packObjectsHook made no pack");
    let [.., a, b, c, d] = made.head;
    Ok(PackStats { objects: u32::from_be_bytes([a, b, c, d]), bytes: made.bytes, ..PackStats::default() })
}

/// Whether the client may see every ref.
fn shows_all(repository: &Repository) -> bool {
    repository.context.namespace.is_none() && repository.settings.upload_hide_refs.is_empty()
}

/// The words after the command, in git's order (PO-19). `--include-tag` would add tags from all refs, so it is not
/// passed if some are hidden.
fn arguments(order: &Order<'_>, tags: bool) -> Vec<OsString> {
    let Order { request, ends, .. } = order;
    let shallow = !ends.is_empty();
    let mut words = vec!["git".into()];
    let mut add = |when: bool, more: &[&str]| words.extend(more.iter().filter(|_| when).map(OsString::from));
    add(shallow, &["--shallow-file", ""]);
    add(true, &["pack-objects", "--revs"]);
    add(request.thin_pack, &["--thin"]);
    add(true, &["--stdout"]);
    add(shallow, &["--shallow"]);
    add(!request.no_progress, &["--progress"]);
    add(request.ofs_delta, &["--delta-base-offset"]);
    add(request.include_tag && tags, &["--include-tag"]);
    add(request.promised, &["--missing=allow-promisor"]);
    if let Some(filter) = &request.filter {
        words.push(word(&[b"--filter=".as_slice(), &filter.text()].concat()));
    }
    words
}

impl Order<'_> {
    /// What the command reads on standard input (PO-20).
    fn lines(&self) -> impl Iterator<Item = Vec<u8>> {
        let line = |id: &ObjectId| format!("{id}\n").into_bytes();
        let ends = self.ends.iter().map(|id| format!("--shallow {id}\n").into_bytes());
        let common = self.common.iter().map(line);
        ends.chain(self.wants.iter().map(line)).chain([b"--not\n".to_vec()]).chain(common).chain([b"\n".to_vec()])
    }
}

/// How much of a pack is looked at: signature, version, number of objects.
const HEAD: usize = 12;

/// The pack as it passes through.
struct PassingPack<'m, 'h, 'a> {
    held: &'m mut HeldBack<'h, 'a>,
    bytes: u64,
    head: [u8; HEAD],
}

impl Write for PassingPack<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let from = usize::try_from(self.bytes).map_or(HEAD, |from| from.min(HEAD));
        self.head[from..].iter_mut().zip(bytes).for_each(|(head, byte)| *head = *byte);
        self.held.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    /// Does nothing: the command's small writes go out in large pieces.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pulse for PassingPack<'_, '_, '_> {
    fn tick(&mut self, done: u64) -> io::Result<()> {
        self.held.tick(done)
    }
}

impl Sink for PassingPack<'_, '_, '_> {
    fn aside(&mut self, text: &[u8]) -> io::Result<()> {
        self.held.aside(text)
    }
}
