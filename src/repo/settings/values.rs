//! What the values of keys mean.
//!
//! In: the entries, and the names of keys, the most specific first. Out: the value of the first of them that is set, or
//! an error that names key and file. Never a default.

use super::{BlobUri, DenyCurrent, FilterRules, Fsync, GitWants, PackUri, RefStorage, Seed, Unborn, Wants};
use crate::durable::Sharing;
use crate::protocol::Versions;
use crate::protocol::proc_receive::Selector;
use crate::refs::{Format, LogRefs};
use crate::repo::config::{ConfigEntry, Entries, Origin, boolean, integer};
use crate::repo::fsck::Changes;
use crate::repo::promisor::{self, PromisorRemote};
use anyhow::{Context as _, anyhow};
use bstr::{BString, ByteSlice};
use gix_hash::ObjectId;
use std::path::PathBuf;

pub(super) fn entry<'a>(entries: &'a Entries, keys: &[&str]) -> Option<&'a ConfigEntry> {
    keys.iter().find_map(|key| entries.iter().rev().find(|entry| is_of(entry, &[key])))
}

/// Whether an entry has one of these keys, which are spelled as in git's documentation.
pub(super) fn is_of(entry: &ConfigEntry, keys: &[&str]) -> bool {
    keys.iter().any(|key| entry.key.eq_ignore_ascii_case(key.as_bytes()))
}

pub(super) fn truth(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<bool>> {
    entry(entries, keys).map(boolean).transpose()
}

/// Whether none of the keys is false; `None` if none is set.
pub(super) fn all_true(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<bool>> {
    let said = keys.iter().map(|key| truth(entries, &[key])).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(said.into_iter().flatten().reduce(|one, other| one && other))
}

pub(super) fn number(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<i64>> {
    entry(entries, keys).map(integer).transpose()
}

/// A negative limit counts as unset, and the next key is used (git tests `0 <= limit`).
pub(super) fn limit(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<u64>> {
    for key in keys {
        if let Some(value) = number(entries, &[key])?
            && let Ok(value) = u64::try_from(value)
        {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

pub(super) fn seconds(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<u64>> {
    Ok(number(entries, keys)?.map(|value| u64::try_from(value).unwrap_or(0)))
}

pub(super) fn bytes(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<u64>> {
    match entry(entries, keys) {
        Some(found) => Ok(Some(u64::try_from(integer(found)?).map_err(|_| bad(found, "a size"))?)),
        None => Ok(None),
    }
}

/// Milliseconds; -1 means for ever, and other negative numbers are errors.
pub(super) fn timeout(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<i64>> {
    match entry(entries, keys) {
        Some(found) => {
            Ok(Some(integer(found)?).filter(|millis| *millis >= -1).ok_or_else(|| bad(found, "-1 or more"))?.into())
        }
        None => Ok(None),
    }
}

pub(super) fn block_size(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<u32>> {
    up_to(entries, keys, 16_777_215)
}

pub(super) fn restart_interval(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<u16>> {
    up_to(entries, keys, u16::MAX)
}

pub(super) fn geometric_factor(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<u8>> {
    up_to(entries, keys, u8::MAX)
}

/// A number up to `most`; 0 means the default.
pub(super) fn up_to<N>(entries: &Entries, keys: &[&str], most: N) -> anyhow::Result<Option<N>>
where
    N: TryFrom<i64> + PartialOrd + std::fmt::Display + From<u8>,
{
    let Some(found) = entry(entries, keys) else { return Ok(None) };
    match N::try_from(integer(found)?) {
        Ok(number) if number <= most => Ok(Some(number).filter(|number| *number > N::from(0))),
        Ok(_) | Err(_) => Err(bad(found, &format!("a number up to {most}"))),
    }
}

/// A size; 0 or a negative number means no limit.
pub(super) fn size(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<Option<u64>>> {
    Ok(number(entries, keys)?.map(|value| u64::try_from(value).ok().filter(|&value| value > 0)))
}

pub(super) fn level(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<u32>> {
    match entry(entries, keys) {
        None => Ok(None),
        Some(found) => match integer(found)? {
            -1 => Ok(None),
            level @ 0..=9 => Ok(u32::try_from(level).ok()),
            _ => Err(bad(found, "a zlib level from -1 to 9")),
        },
    }
}

pub(super) fn text(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<BString>> {
    entry(entries, keys).map(value).transpose()
}

/// The value of an entry; a bare key is an error.
fn value(entry: &ConfigEntry) -> anyhow::Result<BString> {
    entry.value.clone().with_context(|| format!("missing value for '{}' in {}", entry.key, place_of(entry)))
}

/// A text from the protected configuration; what the repository's own files say is ignored (PO-18).
pub(super) fn text_of_operator(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<BString>> {
    let last = entries.iter().rfind(|entry| entry.origin == Origin::Operator && is_of(entry, keys));
    last.map(value).transpose()
}

pub(super) fn path(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<Option<PathBuf>>> {
    Ok(text(entries, keys)?.map(|text| Some(gix_path_of(text))))
}

/// A path that several keys can set: the last entry with any of them counts.
pub(super) fn path_of_any(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<Option<PathBuf>>> {
    let last = entries.iter().rfind(|entry| is_of(entry, keys));
    Ok(last.map(value).transpose()?.map(|text| Some(gix_path_of(text))))
}

pub(super) fn seed(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<Option<Seed>>> {
    Ok(text(entries, keys)?.map(|text| Some(Seed(text))))
}

pub(super) fn gix_path_of(text: BString) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    PathBuf::from(std::ffi::OsString::from_vec(text.into()))
}

/// All values of all keys, in the order of the configuration.
pub(super) fn texts(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<Vec<BString>>> {
    entries.iter().filter(|entry| is_of(entry, keys)).map(value).collect::<anyhow::Result<_>>().map(Some)
}

pub(super) fn selectors(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<Vec<Selector>>> {
    Ok(texts(entries, keys)?.map(|values| values.iter().map(|value| Selector::parse(value.as_bstr())).collect()))
}

/// The words of a list separated by commas.
pub(super) fn words(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<Vec<BString>>> {
    let list = text(entries, keys)?.unwrap_or_default();
    let words = list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    Ok(Some(words.filter(|word| !word.is_empty()).map(BString::from).collect()))
}

pub(super) fn promisor_remotes(entries: &Entries, _: &[&str]) -> anyhow::Result<Option<Vec<PromisorRemote>>> {
    promisor::remotes(entries).map(Some)
}

pub(super) fn word(entries: &Entries, keys: &[&str]) -> Option<(Vec<u8>, ConfigEntry)> {
    let found = entry(entries, keys)?;
    Some((found.value.as_ref().map(|value| value.to_ascii_lowercase()).unwrap_or_default(), found.clone()))
}

/// What a word stands for; `wanted` lists the valid words for the error.
fn choice<T>(
    entries: &Entries,
    keys: &[&str],
    wanted: &str,
    of: impl FnOnce(&[u8]) -> Option<T>,
) -> anyhow::Result<Option<T>> {
    let Some((value, found)) = word(entries, keys) else { return Ok(None) };
    of(&value).map(Some).ok_or_else(|| bad(&found, wanted))
}

pub(super) fn bad(entry: &ConfigEntry, wanted: &str) -> anyhow::Error {
    let file = entry.file.as_deref().map(|file| format!(" in file {}", file.display())).unwrap_or_default();
    let value = entry.value.as_ref().map(|value| value.escape_ascii().to_string()).unwrap_or_default();
    anyhow!("bad config value '{value}' for '{}'{file}: {wanted} is expected", entry.key)
}

/// The source of an entry, in git's words.
pub(super) fn place_of(entry: &ConfigEntry) -> String {
    entry.file.as_ref().map_or_else(|| "command-line config".to_owned(), |file| format!("file {}", file.display()))
}

pub(super) fn object_format(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<gix_hash::Kind>> {
    choice(entries, keys, "sha1 or sha256", |word| match word {
        b"sha1" => Some(gix_hash::Kind::Sha1),
        b"sha256" => Some(gix_hash::Kind::Sha256),
        _ => None,
    })
}

pub(super) fn ref_storage(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<RefStorage>> {
    let Some(found) = entry(entries, keys) else { return Ok(None) };
    let value = found.value.as_ref().map(|value| value.as_bytes()).unwrap_or_default();
    let (name, place) = value.split_once_str("://").map_or((value, None), |(name, place)| (name, Some(place)));
    let format = match name {
        b"files" => Format::Files,
        b"reftable" => Format::Reftable,
        _ => return Err(bad(found, "files or reftable")),
    };
    let place = place.filter(|place| !place.is_empty()).map(|place| gix_path_of(place.into()));
    Ok(Some(RefStorage { format, place }))
}

pub(super) fn unborn(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<Unborn>> {
    choice(entries, keys, "advertise, allow or ignore", |word| match word {
        b"advertise" => Some(Unborn::Advertise),
        b"allow" => Some(Unborn::Allow),
        b"ignore" => Some(Unborn::Ignore),
        _ => None,
    })
}

pub(super) fn deny(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<DenyCurrent>> {
    match word(entries, keys) {
        None => Ok(None),
        Some((value, found)) => Ok(Some(match value.as_slice() {
            b"ignore" => DenyCurrent::Ignore,
            b"warn" => DenyCurrent::Warn,
            b"refuse" => DenyCurrent::Refuse,
            b"updateinstead" => DenyCurrent::UpdateInstead,
            _ if boolean(&found)? => DenyCurrent::Refuse,
            _ => DenyCurrent::Ignore,
        })),
    }
}

pub(super) fn log_refs(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<LogRefs>> {
    match word(entries, keys) {
        None => Ok(None),
        Some((value, _)) if value == b"always" => Ok(Some(LogRefs::Always)),
        Some((_, found)) => Ok(Some(if boolean(&found)? { LogRefs::Branches } else { LogRefs::Existing })),
    }
}

/// As git reads it (setup.c, `git_config_perm`): words, octal numbers with or without a leading zero, booleans.
pub(super) fn sharing(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<Sharing>> {
    let Some((value, found)) = word(entries, keys) else { return Ok(None) };
    Ok(Some(match value.as_slice() {
        b"umask" => Sharing::Umask,
        b"group" => Sharing::Group,
        b"all" | b"world" | b"everybody" => Sharing::Everybody,
        other => match octal(other) {
            Some(0) => Sharing::Umask,
            Some(1) => Sharing::Group,
            Some(2) => Sharing::Everybody,
            Some(mode) if mode & 0o600 == 0o600 => Sharing::Mode(mode & 0o666),
            Some(_) => return Err(bad(&found, "a mode that lets the owner read and write")),
            None if boolean(&found)? => Sharing::Group,
            None => Sharing::Umask,
        },
    }))
}

/// Parses the whole text as an octal number.
fn octal(text: &[u8]) -> Option<u32> {
    u32::from_str_radix(text.to_str().ok()?, 8).ok()
}

/// The components of core.fsync that concern us (git-config, core.fsync); `none` clears everything before it.
pub(super) fn fsync(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<Fsync>> {
    let Some(value) = text(entries, keys)?.map(|text| text.to_ascii_lowercase()) else { return Ok(None) };
    let all = Fsync { loose_object: true, pack: true, pack_metadata: true, reference: true };
    let platform = Fsync { loose_object: false, pack: true, pack_metadata: true, reference: false };
    let mut chosen = platform;
    for component in value.split(|byte| matches!(byte, b',' | b' ')).filter(|word| !word.is_empty()) {
        let (component, on) = match component.strip_prefix(b"-") {
            Some(component) => (component, false),
            None => (component, true),
        };
        match component {
            b"none" => chosen = Fsync { loose_object: false, pack: false, pack_metadata: false, reference: false },
            b"loose-object" => chosen.loose_object = on,
            b"pack" => chosen.pack = on,
            b"pack-metadata" => chosen.pack_metadata = on,
            b"reference" => chosen.reference = on,
            b"objects" => (chosen.loose_object, chosen.pack) = (on, on),
            b"derived-metadata" => chosen.pack_metadata = on,
            b"default" => {
                (chosen.pack, chosen.pack_metadata, chosen.loose_object) =
                    (on, on, if on { chosen.loose_object } else { false })
            }
            b"committed" | b"added" => (chosen.loose_object, chosen.pack, chosen.reference) = (on, on, on),
            b"all" => {
                chosen = Fsync { loose_object: on, pack: on, pack_metadata: on, reference: on };
            }
            b"index" | b"commit-graph" => {}
            // git warns about unknown words and ignores them. Here a misspelt word forces everything to disk, so that
            // what it was meant to protect is not lost.
            _ if on => return Ok(Some(all)),
            _ => {}
        }
    }
    Ok(Some(chosen))
}

/// The words of core.fsyncMethod; others count as unset, as in git (git-config). `writeout-only` flushes as well, like
/// `fsync`.
pub(super) fn fsync_method(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<bool>> {
    let value = text(entries, keys)?.map(|text| text.to_ascii_lowercase());
    Ok(value.and_then(|value| match value.as_slice() {
        b"fsync" | b"writeout-only" => Some(true),
        b"batch" => Some(false),
        _ => None,
    }))
}

/// Whether git's automatic maintenance is allowed and asked for. The keys allow it by git's rules, but unless one of
/// them is set it is not started: most repositories are maintained in another way, and starting a process for each push
/// costs time.
pub(super) fn auto_maintenance(entries: &Entries, _: &[&str]) -> anyhow::Result<Option<bool>> {
    let after_pushes = entries.boolean("receive.autogc")?;
    let on_its_own = entries.boolean("maintenance.auto")?;
    let (loose, packs) = (entries.integer("gc.auto")?, entries.integer("gc.autopacklimit")?);
    let allowed = after_pushes != Some(false) && on_its_own.unwrap_or(loose.is_none_or(|most| most > 0));
    let asked =
        [after_pushes, on_its_own, loose.map(|most| most > 0), packs.map(|most| most > 0)].contains(&Some(true));
    Ok(Some(allowed && asked))
}

pub(super) fn git_wants(entries: &Entries, _: &[&str]) -> anyhow::Result<Option<GitWants>> {
    let mut wants = GitWants::default();
    for entry in entries.iter() {
        match entry.key.as_slice() {
            b"uploadpack.allowtipsha1inwant" => (wants.said, wants.tips) = (true, boolean(entry)?),
            b"uploadpack.allowreachablesha1inwant" => (wants.said, wants.reachable) = (true, boolean(entry)?),
            b"uploadpack.allowanysha1inwant" => {
                let on = boolean(entry)?;
                wants = GitWants { said: true, tips: on, reachable: on, any: on };
            }
            _ => {}
        }
    }
    Ok(Some(wants))
}

pub(super) fn blob_uris(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<Vec<BlobUri>>> {
    let mut uris: Vec<BlobUri> = Vec::new();
    let hash = hash_of(entries)?;
    for entry in entries.iter().filter(|entry| is_of(entry, keys)) {
        let value = entry.value.as_ref().map(|value| value.as_bstr()).unwrap_or_default();
        let read = value
            .split_once_str(" ")
            .and_then(|(blob, at)| Some(BlobUri { blob: ObjectId::from_hex(blob).ok()?, at: pack_uri(at)? }))
            .filter(|uri| uri.blob.kind() == hash && uri.at.pack.kind() == hash);
        let uri = read.ok_or_else(|| bad(entry, "'<object hash> <pack hash> <uri>'"))?;
        if uris.iter().any(|known| known.blob == uri.blob) {
            return Err(bad(entry, "an object that no other value names"));
        }
        uris.push(uri);
    }
    Ok(Some(uris))
}

/// The hash function of the object names in other values.
fn hash_of(entries: &Entries) -> anyhow::Result<gix_hash::Kind> {
    Ok(object_format(entries, &["extensions.objectFormat"])?.unwrap_or(gix_hash::Kind::Sha1))
}

pub(super) fn pack_uris(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<Vec<PackUri>>> {
    let configured = entries.iter().filter(|entry| is_of(entry, keys));
    let hash = hash_of(entries)?;
    let read = |entry: &ConfigEntry| {
        let value = entry.value.as_ref().map(|value| value.as_bstr()).unwrap_or_default();
        let uri = pack_uri(value).filter(|uri| uri.pack.kind() == hash);
        uri.ok_or_else(|| bad(entry, "'<pack hash> <uri>'"))
    };
    configured.map(read).collect::<Result<_, _>>().map(Some)
}

/// Parses `<pack hash> <uri>`; a URI must not be empty nor contain a line feed.
pub(super) fn pack_uri(value: &[u8]) -> Option<PackUri> {
    let (pack, uri) = value.split_once_str(" ")?;
    let pack = ObjectId::from_hex(pack).ok()?;
    (!uri.is_empty() && !uri.contains(&b'\n')).then(|| PackUri { pack, uri: uri.into() })
}

pub(super) fn versions(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<Versions>> {
    choice(entries, keys, "one or more of 0, 1 and 2", Versions::parse)
}

pub(super) fn filters(entries: &Entries, _: &[&str]) -> anyhow::Result<Option<FilterRules>> {
    let mut rules = FilterRules { others: true, named: Vec::new(), tree_depth_max: u64::MAX };
    for entry in entries.iter() {
        let Some(key) = entry.key.strip_prefix(b"uploadpackfilter.") else { continue };
        if key == b"allow" {
            rules.others = boolean(entry)?;
        } else if let Some(name) = key.strip_suffix(b".allow") {
            rules.named.push((name.into(), boolean(entry)?));
        } else if key == b"tree.maxdepth" {
            if entry.value.is_none() {
                return Err(anyhow!("unable to parse '{}' from {}", entry.key, place_of(entry)));
            }
            rules.tree_depth_max = u64::try_from(integer(entry)?).map_err(|_| bad(entry, "a depth"))?;
            rules.named.push(("tree".into(), true));
        }
    }
    Ok(Some(rules))
}

/// Reads `receive.fsck.*`. There is no fallback to `fsck.*`, which is about `git fsck`.
pub(super) fn fsck(entries: &Entries, _: &[&str]) -> anyhow::Result<Option<Changes>> {
    let mut changes = Changes::default();
    for entry in entries.iter() {
        let Some(id) = entry.key.strip_prefix(b"receive.fsck.") else { continue };
        let Some(value) = &entry.value else {
            return Err(anyhow!("unable to parse '{}' from {}", entry.key, place_of(entry)));
        };
        if id == b"skiplist" {
            changes.skip(gix_path_of(value.clone()));
        } else if !changes.add(id, value) {
            return Err(bad(entry, "error, warn or ignore"));
        }
    }
    Ok(Some(changes))
}

pub(super) fn wants(entries: &Entries, keys: &[&str]) -> anyhow::Result<Option<Wants>> {
    choice(entries, keys, "any, commits, reachable or advertised", |word| match word {
        b"any" => Some(Wants::Any),
        b"commits" => Some(Wants::Commits),
        b"reachable" => Some(Wants::Reachable),
        b"advertised" => Some(Wants::Advertised),
        _ => None,
    })
}
