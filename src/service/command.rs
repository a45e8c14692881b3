//! The v2 envelope: one command per request, or a loop of them.
//!
//! In: a body. Out: what the command's row of OFFERS runs. Which commands there are is known to the table alone.

use super::offer::{self, View};
use super::{Out, ServeError, finish, promisor};
use crate::pktline::PacketReader;
use crate::protocol::ProtocolError;
use crate::protocol::command::Envelope;
use crate::repo::Repository;
use crate::stream::Body;
use bstr::ByteSlice;

/// What is left of a request: the arguments of its command.
pub struct Arguments<'b> {
    body: &'b mut dyn Body,
    /// Whether there are any: a request may end right behind its capabilities (V2-07).
    present: bool,
    /// Whether the client will ask promisor remotes of ours for what is missing here (V2-18).
    pub promised_elsewhere: bool,
}

impl Arguments<'_> {
    /// Reads them, and the body to its end: an answer may follow.
    ///
    /// # Errors
    /// What `parse` says; a body that cannot be read.
    pub fn parse<T>(
        self,
        parse: impl FnOnce(&mut PacketReader<'_>) -> Result<T, ProtocolError>,
    ) -> Result<T, ServeError> {
        let parsed = if self.present {
            parse(&mut PacketReader::new(self.body))?
        } else {
            parse(&mut PacketReader::new(&mut &b"0000"[..]))?
        };
        finish(self.body)?;
        Ok(parsed)
    }
}

/// What holds from one request of a conversation to the next.
#[derive(Debug, Clone, Copy, Default)]
pub struct Conversation {
    /// The client has accepted a promisor remote of ours. git says so with ls-refs, and not again with its fetch: where each
    /// request is a conversation of its own, a fetch is without.
    promised_elsewhere: bool,
}

/// Serves one request; `false`: there was none, the client has nothing more to ask.
///
/// # Errors
/// What cannot be served, and whatever the command reports.
pub fn serve_one(
    repository: &Repository,
    conversation: &mut Conversation,
    body: &mut dyn Body,
    out: &mut Out<'_>,
) -> Result<bool, ServeError> {
    let view = View { repository, head: None };
    let envelope = Envelope::parse(
        &mut PacketReader::new(body),
        repository.hash(),
        &|name| offer::kind(name, &view),
        &repository.context.limits,
    )?;
    let Some(envelope) = envelope else {
        finish(body)?;
        return Ok(false);
    };
    out.summary.agent = envelope.agent.map(|agent| agent.to_string());
    out.summary.client_sid = envelope.session_id.map(|id| id.to_string());
    let command = offer::find(&envelope.command, &view).and_then(|offer| offer.command);
    let command = command.ok_or_else(|| ProtocolError::Said(format!("invalid command '{}'", envelope.command)))?;
    let accepted = envelope.promisor_remotes.as_ref().map(|names| names.as_bstr());
    conversation.promised_elsewhere |= accepted.is_some_and(|names| promisor::accepts(&repository.settings, names));
    let promised_elsewhere = conversation.promised_elsewhere;
    command(repository, Arguments { body, present: envelope.arguments, promised_elsewhere }, out)?;
    Ok(true)
}
