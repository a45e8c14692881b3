//! The options of `git upload-pack` and `git receive-pack`, parsed as git parses options.
//!
//! In: words. Out: what they ask for, or a text and an exit status. The parser, the usage text and `-h` all derive from
//! one table for each service, so they never disagree.

use crate::number;
use crate::service::Service;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

/// What the words ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The repository as it was named.
    pub directory: OsString,
    /// `--http-backend-info-refs`: only the advertisement.
    pub advertise: bool,
    /// `--stateless-rpc`: one request, one answer.
    pub stateless: bool,
    /// `--strict`: the directory exactly as named, without suffixes.
    pub strict: bool,
    /// `--timeout`: seconds of inactivity; 0 for no timeout.
    pub timeout_s: u64,
    /// `--quiet`
    pub quiet: bool,
    /// `--skip-connectivity-check`
    pub skip_connectivity: bool,
    /// `--reject-thin-pack-for-testing`
    pub reject_thin: bool,
}

/// Why the service does not run: the text, and whether it was asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Instead {
    /// `-h`, `--help-all`: goes to stdout, exit status 0.
    Help(String),
    /// Goes to stderr, exit status 129.
    Wrong(String),
}

/// The exit status for wrong usage.
pub const USAGE_STATUS: u8 = 129;

/// One option.
struct Row {
    long: &'static str,
    short: Option<u8>,
    /// The name of its value, if it takes one.
    value: Option<&'static str>,
    hidden: bool,
    help: &'static str,
    set: fn(&mut Options, u64),
}

const fn flag(long: &'static str, help: &'static str, set: fn(&mut Options, u64)) -> Row {
    Row { long, short: None, value: None, hidden: false, help, set }
}

const fn hidden(long: &'static str, help: &'static str, set: fn(&mut Options, u64)) -> Row {
    Row { hidden: true, ..flag(long, help, set) }
}

const INFO_REFS: Row =
    hidden("http-backend-info-refs", "announce what there is, and end", |options, on| options.advertise = on > 0);
const ADVERTISE_REFS: Row =
    hidden("advertise-refs", "the older name of --http-backend-info-refs", |options, on| options.advertise = on > 0);

static UPLOAD_PACK: &[Row] = &[
    flag("stateless-rpc", "answer one request and end", |options, on| options.stateless = on > 0),
    flag("strict", "take the directory as it is named: try no suffixes", |options, on| options.strict = on > 0),
    Row {
        value: Some("n"),
        ..flag("timeout", "end after <n> seconds in which nothing is transferred", |options, n| options.timeout_s = n)
    },
    INFO_REFS,
    ADVERTISE_REFS,
];

static RECEIVE_PACK: &[Row] = &[
    Row { short: Some(b'q'), ..flag("quiet", "tell no progress", |options, on| options.quiet = on > 0) },
    hidden("skip-connectivity-check", "believe that new tips are complete", |options, on| {
        options.skip_connectivity = on > 0;
    }),
    hidden("stateless-rpc", "answer one request and end", |options, on| options.stateless = on > 0),
    INFO_REFS,
    ADVERTISE_REFS,
    hidden("reject-thin-pack-for-testing", "refuse packs whose bases are not in them", |options, on| {
        options.reject_thin = on > 0;
    }),
];

fn rows(service: Service) -> &'static [Row] {
    match service {
        Service::UploadPack => UPLOAD_PACK,
        Service::ReceivePack => RECEIVE_PACK,
    }
}

/// Parses the words that follow the name of the program or subcommand. Options may follow the directory, and may be
/// abbreviated as long as they are unambiguous.
///
/// # Errors
/// What must be printed instead of running.
pub fn parse(service: Service, words: impl Iterator<Item = OsString>) -> Result<Options, Instead> {
    let mut options = Options::default();
    let mut directories = Vec::new();
    let mut words = words;
    while let Some(word) = words.next() {
        match word.as_bytes() {
            b"--" | b"--end-of-options" => {
                directories.extend(words.by_ref());
            }
            b"-h" => return Err(Instead::Help(usage(service, false))),
            b"--help-all" => return Err(Instead::Help(usage(service, true))),
            [b'-', b'-', name @ ..] => long(service, name, &mut words, &mut options)?,
            [b'-', letters @ ..] if !letters.is_empty() => short(service, letters, &mut options)?,
            _ => directories.push(word),
        }
    }
    let wrong = |text: &str| Err(Instead::Wrong(format!("{text}{}", usage(service, false))));
    let mut directories = directories.into_iter();
    match (directories.next(), directories.next(), service) {
        (Some(directory), None, _) => Ok(Options { directory, ..options }),
        (_, _, Service::UploadPack) => wrong(""),
        (None, _, Service::ReceivePack) => wrong("fatal: you must specify a directory\n\n"),
        (Some(_), Some(_), Service::ReceivePack) => wrong("fatal: too many arguments\n\n"),
    }
}

fn long(
    service: Service,
    word: &[u8],
    words: &mut dyn Iterator<Item = OsString>,
    options: &mut Options,
) -> Result<(), Instead> {
    let shown = String::from_utf8_lossy(word);
    let (name, given) = match shown.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (&*shown, None),
    };
    let wrong = |text: String| Err(Instead::Wrong(text));
    let with_usage = |text: String| wrong(format!("{text}{}", usage(service, false)));
    // An option without «no-» takes precedence over one with it, and whole names over prefixes.
    let positive = name.strip_prefix("no-");
    let exact = |name: &str| rows(service).iter().filter(|row| row.long == name).collect::<Vec<_>>();
    let begins = |name: &str| rows(service).iter().filter(|row| row.long.starts_with(name)).collect::<Vec<_>>();
    let candidates = [
        (exact(name), true),
        (positive.map(exact).unwrap_or_default(), false),
        (begins(name), true),
        (positive.map(begins).unwrap_or_default(), false),
    ];
    let (found, on) = candidates.into_iter().find(|(found, _)| !found.is_empty()).unwrap_or_default();
    let dash = if on { "" } else { "no-" };
    let row = match found.as_slice() {
        [row] => row,
        [one, two, ..] => {
            return with_usage(format!(
                "error: ambiguous option: {name} (could be --{dash}{} or --{dash}{})\n",
                one.long, two.long
            ));
        }
        [] => return with_usage(format!("error: unknown option `{name}'\n")),
    };
    match (row.value.filter(|_| on), given) {
        (None, None) => (row.set)(options, u64::from(on)),
        (None, Some(_)) => return wrong(format!("error: option `{dash}{}' takes no value\n", row.long)),
        (Some(_), given) => {
            let given = given.or_else(|| words.next().map(|word| word.to_string_lossy().into_owned()));
            let Some(given) = given else {
                return wrong(format!("error: option `{}' requires a value\n", row.long));
            };
            let Some(number) = integer(&given) else {
                let text = "expects an integer value with an optional k/m/g suffix";
                return wrong(format!("error: option `{}' {text}\n", row.long));
            };
            (row.set)(options, number);
        }
    }
    Ok(())
}

/// A number as git reads one; negative numbers count as zero.
fn integer(text: &str) -> Option<u64> {
    let number = number::signed_with_unit(text.as_bytes())?;
    i32::try_from(number).ok().map(|number| u64::try_from(number).unwrap_or(0))
}

fn short(service: Service, letters: &[u8], options: &mut Options) -> Result<(), Instead> {
    for letter in letters {
        let Some(row) = rows(service).iter().find(|row| row.short == Some(*letter)) else {
            let shown = char::from(*letter).escape_default();
            return Err(Instead::Wrong(format!("error: unknown switch `{shown}'\n{}", usage(service, false))));
        };
        (row.set)(options, 1);
    }
    Ok(())
}

/// The usage line and the options.
fn usage(service: Service, all: bool) -> String {
    /// The column of the explanations.
    const COLUMN: usize = 24;
    let shown = || rows(service).iter().filter(|row| all || !row.hidden);
    let mut text = format!("usage: {} [options] <directory>\n\n", service.name());
    for row in shown() {
        let mut left = String::from("   ");
        if let Some(short) = row.short {
            let _ = write!(left, " -{},", char::from(short));
        }
        let _ = write!(left, " --[no-]{}", row.long);
        if let Some(value) = row.value {
            let _ = write!(left, " <{value}>");
        }
        let _ = writeln!(text, "{left:COLUMN$}  {}", row.help);
    }
    text.push('\n');
    text
}

/// The service that a program's name means: `git-upload-pack`, `/usr/bin/git-receive-pack`.
pub fn service_of_name(name: &OsStr) -> Option<Service> {
    let last = name.as_bytes().rsplit(|&byte| byte == b'/').next()?;
    [Service::UploadPack, Service::ReceivePack].into_iter().find(|service| last == service.name().as_bytes())
}

/// The service that a subcommand means: `upload-pack`, `receive-pack`.
pub fn service_of_word(word: &OsStr) -> Option<Service> {
    [Service::UploadPack, Service::ReceivePack].into_iter().find(|service| word == service.short_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(service: Service, words: &str) -> Result<Options, Instead> {
        parse(service, words.split_whitespace().map(OsString::from))
    }

    fn at(directory: &str) -> Options {
        Options { directory: directory.into(), ..Options::default() }
    }

    #[test]
    fn options_are_gits() {
        let upload = |words: &str, expected: Options| {
            assert_eq!(parsed(Service::UploadPack, words), Ok(expected), "{words}");
        };
        upload("/r", at("/r"));
        upload("--strict --timeout=5 .", Options { strict: true, timeout_s: 5, ..at(".") });
        upload("--timeout 2k r --stateless-rpc", Options { timeout_s: 2048, stateless: true, ..at("r") });
        upload("--strict --no-strict --timeout=3 --no-timeout r", at("r"));
        upload("--timeout=-3 r", at("r"));
        upload("--http-backend-info-refs r", Options { advertise: true, ..at("r") });
        upload("--advertise-refs --http-backend-info-refs r", Options { advertise: true, ..at("r") });
        upload("--str --ti=1 r", Options { strict: true, timeout_s: 1, ..at("r") });
        upload("-- --strict", at("--strict"));
        upload("-", at("-"));
        let receive = |words: &str, expected: Options| {
            assert_eq!(parsed(Service::ReceivePack, words), Ok(expected), "{words}");
        };
        receive("-q r", Options { quiet: true, ..at("r") });
        receive("--quiet --no-quiet r", at("r"));
        receive(
            "--skip-connectivity-check --stateless-rpc r",
            Options { skip_connectivity: true, stateless: true, ..at("r") },
        );
        receive("--reject-thin-pack-for-testing r", Options { reject_thin: true, ..at("r") });
    }

    #[test]
    fn what_is_wrong_is_told_in_gits_words() {
        let check = |service, words: &str, expected: &str| match parsed(service, words) {
            Err(Instead::Wrong(text)) => assert!(text.starts_with(expected), "{words}: {text}"),
            other => panic!("{words}: {other:?}"),
        };
        use Service::{ReceivePack, UploadPack};
        check(UploadPack, "", "usage: git-upload-pack [options] <directory>\n\n    --[no-]stateless-rpc");
        check(UploadPack, "a b", "usage: git-upload-pack");
        check(UploadPack, "--foo=3 r", "error: unknown option `foo'\nusage: git-upload-pack");
        check(UploadPack, "--quiet r", "error: unknown option `quiet'\n");
        check(UploadPack, "-x r", "error: unknown switch `x'\nusage: ");
        check(UploadPack, "--s r", "error: ambiguous option: s (could be --stateless-rpc or --strict)\nusage: ");
        check(UploadPack, "--strict=3 r", "error: option `strict' takes no value\n");
        check(
            UploadPack,
            "--timeout=x r",
            "error: option `timeout' expects an integer value with an optional k/m/g suffix\n",
        );
        check(UploadPack, "r --timeout", "error: option `timeout' requires a value\n");
        check(ReceivePack, "", "fatal: you must specify a directory\n\nusage: git-receive-pack");
        check(ReceivePack, "a b", "fatal: too many arguments\n\nusage: git-receive-pack");
        check(ReceivePack, "--strict r", "error: unknown option `strict'\n");
    }

    #[test]
    fn help_shows_what_is_hidden_only_when_asked_for_all() {
        let check = |words: &str, hidden: bool| match parsed(Service::ReceivePack, words) {
            Err(Instead::Help(text)) => {
                assert!(text.contains("-q, --[no-]quiet"), "{text}");
                assert_eq!(text.contains("skip-connectivity-check"), hidden, "{text}");
            }
            other => panic!("{other:?}"),
        };
        check("-h", false);
        check("--help-all", true);
    }

    #[test]
    fn names_stand_for_services() {
        let check = |name: &str, expected| assert_eq!(service_of_name(OsStr::new(name)), expected, "{name}");
        check("git-upload-pack", Some(Service::UploadPack));
        check("/usr/lib/git-core/git-receive-pack", Some(Service::ReceivePack));
        check("artifacts-http-backend", None);
        check("upload-pack", None);
        check("", None);
        assert_eq!(service_of_word(OsStr::new("upload-pack")), Some(Service::UploadPack));
        assert_eq!(service_of_word(OsStr::new("git-upload-pack")), None);
    }
}
