//! The envelope of a v2 request: command, capabilities, then a flush, or a delimiter and arguments (gitprotocol-v2,
//! Command Request).
//!
//! In: packets. Out: an [`Envelope`], and the lines of its arguments. Nothing here knows the commands: the caller says
//! what is offered.

use super::capability::Capability;
use super::{Limits, ProtocolError, shown};
use crate::pktline::{FrameError, Packet, PacketReader};
use bstr::BString;

/// What a name is offered as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// Not at all.
    No,
    /// As a capability that clients may send.
    Capability,
    /// As a command.
    Command,
}

/// One v2 request, up to its arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The command to run.
    pub command: BString,
    /// `agent=…`.
    pub agent: Option<BString>,
    /// `session-id=…`.
    pub session_id: Option<BString>,
    /// `promisor-remote=…`: the advertised remotes that the client accepts.
    pub promisor_remotes: Option<BString>,
    /// Whether arguments follow, up to a flush.
    pub arguments: bool,
}

impl Envelope {
    /// Reads a request up to its delimiter or its end. Returns `None` if the client has no more requests (a lone flush,
    /// or the end of the stream).
    ///
    /// # Errors
    /// In git's words: something that is not offered, a second command, no command, another object format, bad framing.
    pub fn parse(
        reader: &mut PacketReader<'_>,
        hash: gix_hash::Kind,
        offered: &dyn Fn(&[u8]) -> Offered,
        limits: &Limits,
    ) -> Result<Option<Self>, ProtocolError> {
        let said = |text: String| Err(ProtocolError::Said(text));
        let mut envelope = Envelope::default();
        let mut command: Option<BString> = None;
        // A client that does not name a format means SHA-1 (gitprotocol-v2, object-format).
        let mut format = BString::from("sha1");
        let mut lines = ArgumentLines::new(limits);
        let mut first = true;
        loop {
            let line = match reader.next()? {
                None if first => return Ok(None),
                None => return Err(FrameError::Truncated.into()),
                Some(Packet::Flush) if first => return Ok(None),
                Some(Packet::Flush) => break,
                Some(Packet::Delim) => {
                    envelope.arguments = true;
                    break;
                }
                Some(Packet::ResponseEnd) => return said("unexpected response end packet".to_owned()),
                Some(packet @ Packet::Data(_)) => packet.text().unwrap_or_default(),
            };
            first = false;
            lines.count()?;
            if let Some(name) = line.strip_prefix(b"command=") {
                if let Some(before) = command {
                    let name = shown(name);
                    return said(format!("command '{name}' requested after already requesting command '{before}'"));
                }
                if offered(name) != Offered::Command {
                    return said(format!("invalid command '{}'", shown(name)));
                }
                command = Some(name.into());
                continue;
            }
            let Capability { name, value } = Capability::parse(line);
            if offered(name) != Offered::Capability {
                return said(format!("unknown capability '{}'", shown(line)));
            }
            match name {
                b"object-format" => {
                    let Some(value) = value else {
                        return said("object-format capability requires an argument".to_owned());
                    };
                    if !matches!(value, b"sha1" | b"sha256") {
                        return said(format!("unknown object format '{}'", shown(value)));
                    }
                    format = value.into();
                }
                b"agent" => envelope.agent = value.map(BString::from),
                b"promisor-remote" => envelope.promisor_remotes = value.map(BString::from),
                b"session-id" => envelope.session_id = Some(value.unwrap_or_default().into()),
                _ => {}
            }
        }
        let Some(command) = command else {
            return said("no command requested".to_owned());
        };
        let ours = hash.to_string();
        if format != ours {
            return said(format!("mismatched object format: server {ours}; client {format}"));
        }
        envelope.command = command;
        Ok(Some(envelope))
    }
}

/// What ended the arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// `0000`.
    Flush,
    /// `0001` or `0002`.
    Other,
}

/// Reads lines and counts them against a limit.
#[derive(Debug)]
pub struct ArgumentLines {
    left: u64,
    most: u64,
}

impl ArgumentLines {
    /// Allows as many lines as the limits do.
    pub fn new(limits: &Limits) -> Self {
        ArgumentLines { left: limits.lines, most: limits.lines }
    }

    /// Counts one more line.
    ///
    /// # Errors
    /// When it exceeds the limit.
    pub fn count(&mut self) -> Result<(), ProtocolError> {
        self.left = self.left.checked_sub(1).ok_or(ProtocolError::Limit { what: "lines", most: self.most })?;
        Ok(())
    }

    /// Passes each line, without its newline, to `each`, up to the first packet that is not a line.
    ///
    /// # Errors
    /// What `each` returns, too many lines, bad framing, the end of the stream.
    pub fn read(
        &mut self,
        reader: &mut PacketReader<'_>,
        each: &mut dyn FnMut(&[u8]) -> Result<(), ProtocolError>,
    ) -> Result<Ended, ProtocolError> {
        loop {
            match reader.next()?.ok_or(FrameError::Truncated)? {
                packet @ Packet::Data(_) => {
                    self.count()?;
                    each(packet.text().unwrap_or_default())?;
                }
                Packet::Flush => return Ok(Ended::Flush),
                Packet::Delim | Packet::ResponseEnd => return Ok(Ended::Other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pktline;

    fn check(lines: &str, end: &[u8], expected: &str) {
        let mut input = Vec::new();
        for line in lines.split('|').filter(|line| !line.is_empty()) {
            pktline::line(&mut input, line.as_bytes()).expect("memory can be written");
        }
        input.extend_from_slice(end);
        let mut input = &input[..];
        let offered = |name: &[u8]| match name {
            b"ls-refs" | b"fetch" => Offered::Command,
            b"agent" | b"object-format" | b"server-option" => Offered::Capability,
            _ => Offered::No,
        };
        let limits = Limits { lines: 8, ..Limits::default() };
        let parsed = Envelope::parse(&mut PacketReader::new(&mut input), gix_hash::Kind::Sha1, &offered, &limits);
        let told = match parsed {
            Err(error) => error.to_string(),
            Ok(None) => "nothing".to_owned(),
            Ok(Some(envelope)) => format!(
                "{}{}{}",
                envelope.command,
                if envelope.arguments { " with arguments" } else { "" },
                envelope.agent.map(|agent| format!(" from {agent}")).unwrap_or_default()
            ),
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn a_request_names_one_command_and_what_the_client_is() {
        check("command=ls-refs\n|agent=git/2.53\n|object-format=sha1", b"0001", "ls-refs with arguments from git/2.53");
        check("agent=x|command=fetch", b"0000", "fetch from x");
        check("command=fetch|server-option=a=b|server-option=c", b"0000", "fetch");
    }

    #[test]
    fn nothing_asked_ends_the_conversation() {
        check("", b"0000", "nothing");
        check("", b"", "nothing");
    }

    #[test]
    fn what_cannot_be_served_is_told_in_gits_words() {
        check("foobar", b"0000", "unknown capability 'foobar'");
        check("fetch", b"0000", "unknown capability 'fetch'");
        check("fetch=x", b"0000", "unknown capability 'fetch=x'");
        check("session-id=1", b"0000", "unknown capability 'session-id=1'");
        check("", b"0001", "no command requested");
        check("agent=git/test", b"0000", "no command requested");
        check("command=foo", b"0000", "invalid command 'foo'");
        check("command=fetch=x", b"0000", "invalid command 'fetch=x'");
        check("command=agent", b"0000", "invalid command 'agent'");
        check(
            "command=ls-refs|command=fetch",
            b"0000",
            "command 'fetch' requested after already requesting command 'ls-refs'",
        );
        check("command=fetch|object-format", b"0000", "object-format capability requires an argument");
        check("command=fetch|object-format=sha3", b"0000", "unknown object format 'sha3'");
        check("command=fetch|object-format=sha256", b"0000", "mismatched object format: server sha1; client sha256");
        check("command=fetch", b"0002", "unexpected response end packet");
        check("command=fetch", b"", "the remote end hung up unexpectedly");
        check("agent|agent|agent|agent|agent|agent|agent|command=fetch", b"0000", "fetch");
        check(
            "agent|agent|agent|agent|agent|agent|agent|agent|command=fetch",
            b"0000",
            "the request is over the limit: lines is 8",
        );
    }
}
