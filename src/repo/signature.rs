//! Verifies signatures with the programs that git would run, configured as for git (gpg.*).
//!
//! In: the signed text, and the signature as a file. Out: the verdict that hooks see. Nothing is ever refused here.

use super::{Repository, hooks};
use crate::children::{self, Ended, Output};
use crate::protocol::certificate::SignatureForm;
use crate::stream::{Pulse, Sink};
use bstr::{BStr, BString, ByteSlice};
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// What is known of a signature (git-log, `%G?`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// `G` good, `B` bad, `X` good but expired, `Y` good by an expired key, `R` good by a revoked key, `E` cannot be
    /// checked, `N` not checked.
    pub status: char,
    /// Who signed.
    pub signer: BString,
    /// The key that signed.
    pub key: BString,
}

impl Signed {
    /// A signature that was not checked.
    pub fn unchecked() -> Self {
        Signed::as_found('N')
    }

    fn as_found(status: char) -> Self {
        Signed { status, signer: BString::default(), key: BString::default() }
    }
}

/// The most bytes of a program's output that are read; the rest is discarded.
const SAID_MAX: usize = 64 << 10;

/// Runs the program for the form of the signature. What prevents that is told to `complain`; the status is then `N`, or
/// `B` if ssh-keygen could not be run.
///
/// # Errors
/// When the client disconnects meanwhile.
pub fn verify(
    repository: &Repository,
    form: SignatureForm,
    payload: &[u8],
    signature: &Path,
    pulse: &mut dyn Pulse,
    complain: &mut dyn FnMut(String),
) -> io::Result<Signed> {
    let mut verifier = Verifier { repository, program: program(repository, form), pulse, complain };
    match form {
        SignatureForm::OpenPgp => verifier.gnupg(&["--keyid-format=long"], payload, signature),
        SignatureForm::X509 => verifier.gnupg(&[], payload, signature),
        SignatureForm::Ssh => verifier.ssh(payload, signature),
    }
}

fn program(repository: &Repository, form: SignatureForm) -> PathBuf {
    let settings = &repository.settings;
    let (configured, usual) = match form {
        SignatureForm::OpenPgp => (&settings.gpg_program, "gpg"),
        SignatureForm::X509 => (&settings.gpg_x509_program, "gpgsm"),
        SignatureForm::Ssh => (&settings.gpg_ssh_program, "ssh-keygen"),
    };
    configured.as_deref().map_or_else(|| usual.into(), |path| at_home(repository, path))
}

/// A path of the configuration with `~/` expanded.
fn at_home(repository: &Repository, path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), &repository.context.config.home) {
        (Ok(below), Some(home)) => home.join(below),
        _ => path.to_owned(),
    }
}

/// A program that verifies signatures.
struct Verifier<'a> {
    repository: &'a Repository,
    program: PathBuf,
    pulse: &'a mut dyn Pulse,
    complain: &'a mut dyn FnMut(String),
}

impl Verifier<'_> {
    fn gnupg(&mut self, first: &[&str], payload: &[u8], signature: &Path) -> io::Result<Signed> {
        let mut words: Vec<OsString> = first.iter().map(Into::into).collect();
        words.extend(["--status-fd=1".into(), "--verify".into(), signature.into(), "-".into()]);
        let (_, said) = self.run(&words, payload)?;
        Ok(gnupg_says(&said))
    }

    fn ssh(&mut self, payload: &[u8], signature: &Path) -> io::Result<Signed> {
        let Some(signers) = self.repository.settings.gpg_ssh_allowed_signers.clone() else {
            let text = "gpg.ssh.allowedSignersFile needs to be configured and exist for ssh signature verification";
            (self.complain)(format!("error: {text}"));
            return Ok(Signed::unchecked());
        };
        let signers = at_home(self.repository, &signers);
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let mut find = words(&["-Y", "find-principals", "-f"]);
        find.extend([signers.clone().into(), "-s".into(), signature.into()]);
        let (found, principals) = self.run(&find, b"")?;
        if !found || principals.is_empty() {
            // A valid signature perhaps, but by a key we do not know.
            let mut check = words(&["-Y", "check-novalidate", "-n", "git", "-s"]);
            check.push(signature.into());
            let (_, said) = self.run(&check, payload)?;
            return Ok(ssh_says(&said));
        }
        let revoked = self.revoked();
        let mut said = BString::default();
        for principal in principals.lines().filter(|line| !line.is_empty()) {
            let mut verify = words(&["-Y", "verify", "-n", "git", "-f"]);
            verify.extend([signers.clone().into(), "-I".into(), OsString::from_vec(principal.to_vec())]);
            verify.extend(["-s".into(), signature.into()]);
            verify.extend(revoked.iter().flat_map(|file| ["-r".into(), file.clone().into()]));
            let (well, answer) = self.run(&verify, payload)?;
            said = answer;
            if well && said.starts_with(b"Good") {
                break;
            }
        }
        Ok(ssh_says(&said))
    }

    fn revoked(&mut self) -> Option<PathBuf> {
        let file = at_home(self.repository, self.repository.settings.gpg_ssh_revocation_file.as_deref()?);
        let there = self.repository.git_dir.join(&file).exists();
        if !there {
            let file = file.display();
            (self.complain)(format!("warning: ssh signing revocation file configured but not found: {file}"));
        }
        there.then_some(file)
    }

    /// Runs the program; returns whether it succeeded, and its output. Its standard error is discarded: signatures come
    /// from strangers, who could choose some of the text there.
    fn run(&mut self, arguments: &[OsString], input: &[u8]) -> io::Result<(bool, BString)> {
        let environment = hooks::environment(self.repository, &[]);
        let child = hooks::child(self.repository, &self.program, arguments, &environment);
        let mut heard = Heard { said: Vec::new(), pulse: &mut *self.pulse, gone: None };
        let mut input = input.chunks(INPUT_PIECE).map(<[u8]>::to_vec);
        let ended = children::run(&child, &mut input, Output::Stdout(&mut heard), self.repository.context.timeout);
        if let Some(gone) = heard.gone {
            return Err(gone);
        }
        let said = heard.said.into();
        Ok(match ended {
            Ok(ended) => (ended == Ended::Status(0), said),
            Err(error) => {
                (self.complain)(format!("error: cannot run {}: {error}", self.program.display()));
                (false, BString::default())
            }
        })
    }
}

/// How many bytes a program is given at a time.
const INPUT_PIECE: usize = 16 << 10;

/// A program's output, up to a limit. Ticks keep the connection to the client alive meanwhile.
struct Heard<'a> {
    said: Vec<u8>,
    pulse: &'a mut dyn Pulse,
    gone: Option<io::Error>,
}

impl Write for Heard<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = SAID_MAX - self.said.len();
        self.said.extend(bytes.iter().take(room));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pulse for Heard<'_> {
    fn tick(&mut self, done: u64) -> io::Result<()> {
        self.pulse.tick(done).map_err(|error| {
            let kind = error.kind();
            self.gone = Some(error);
            kind.into()
        })
    }
}

impl Sink for Heard<'_> {}

/// The verdict in the status lines of gpg and gpgsm. If there are several signatures, it is `E`.
fn gnupg_says(said: &[u8]) -> Signed {
    let mut signed: Option<Signed> = None;
    for line in said.lines() {
        let Some((word, rest)) = line.strip_prefix(b"[GNUPG:] ").and_then(|line| line.split_once_str(" ")) else {
            // A trust level may have no arguments.
            continue;
        };
        let status = match word {
            b"GOODSIG" => 'G',
            b"BADSIG" => 'B',
            b"ERRSIG" => 'E',
            b"EXPSIG" => 'X',
            b"EXPKEYSIG" => 'Y',
            b"REVKEYSIG" => 'R',
            _ => continue,
        };
        if signed.is_some() {
            return Signed::as_found('E');
        }
        let (key, signer) = rest.split_once_str(" ").unwrap_or((rest, b""));
        // For a signature that cannot be checked, a name does not follow the key.
        let signer = if status == 'E' { b"" } else { signer };
        signed = Some(Signed { status, signer: signer.into(), key: key.into() });
    }
    signed.unwrap_or_else(Signed::unchecked)
}

/// Parses `Good "git" signature for SIGNER with TYPE key KEY`; `for SIGNER` is missing if the key is unknown.
fn ssh_says(said: &[u8]) -> Signed {
    let bad = Signed::as_found('B');
    let line: &BStr = said.trim_start().lines().next().unwrap_or_default().as_bstr();
    let (signer, with) = if let Some(rest) = line.strip_prefix(b"Good \"git\" signature for ") {
        // A name may contain anything, so it ends at the last ` with `.
        let Some(at) = rest.rfind(b" with ") else { return bad };
        (&rest[..at], &rest[at + 1..])
    } else if let Some(rest) = line.strip_prefix(b"Good \"git\" signature with ") {
        (&b""[..], rest)
    } else {
        return bad;
    };
    match with.find(b"key ") {
        Some(at) => Signed { status: 'G', signer: signer.into(), key: with[at + 4..].into() },
        None => Signed { signer: signer.into(), ..bad },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(read: fn(&[u8]) -> Signed, said: &str, expected: (char, &str, &str)) {
        let Signed { status, signer, key } = read(said.as_bytes());
        assert_eq!((status, signer.to_string().as_str(), key.to_string().as_str()), expected, "{said}");
    }

    #[test]
    fn status_lines_of_gnupg_are_read_as_by_git() {
        let line = |text: &str| format!("[GNUPG:] NEWSIG\n[GNUPG:] {text}\n[GNUPG:] TRUST_ULTIMATE 0 pgp\n");
        check(gnupg_says, &line("GOODSIG 12AB A U Thor <a@x>"), ('G', "A U Thor <a@x>", "12AB"));
        check(gnupg_says, &line("BADSIG 12AB A U Thor <a@x>"), ('B', "A U Thor <a@x>", "12AB"));
        check(gnupg_says, &line("EXPKEYSIG 12AB A"), ('Y', "A", "12AB"));
        check(gnupg_says, &line("EXPSIG 12AB A"), ('X', "A", "12AB"));
        check(gnupg_says, &line("REVKEYSIG 12AB A"), ('R', "A", "12AB"));
        check(gnupg_says, &line("ERRSIG 12AB 1 8 00 1700000000 9 -"), ('E', "", "12AB"));
        check(gnupg_says, &line("GOODSIG 12AB"), ('G', "", "12AB"));
        check(gnupg_says, &(line("GOODSIG 12AB A") + &line("BADSIG 12AB B")), ('E', "", ""));
        check(gnupg_says, "gpg: GOODSIG 12AB A\nx [GNUPG:] GOODSIG 12AB A\n", ('N', "", ""));
        check(gnupg_says, "", ('N', "", ""));
    }

    #[test]
    fn what_ssh_keygen_says_is_read_as_by_git() {
        let key = "SHA256:abc";
        check(ssh_says, "Good \"git\" signature for me with RSA key SHA256:abc\n", ('G', "me", key));
        check(ssh_says, "Good \"git\" signature for one with two with RSA key SHA256:abc", ('G', "one with two", key));
        check(ssh_says, "Good \"git\" signature with RSA key SHA256:abc\nmore\n", ('G', "", key));
        check(ssh_says, "Good \"git\" signature for me\n", ('B', "", ""));
        check(ssh_says, "Good \"git\" signature for me with nothing\n", ('B', "me", ""));
        check(ssh_says, "Could not verify signature.\n", ('B', "", ""));
        check(ssh_says, "", ('B', "", ""));
    }
}
