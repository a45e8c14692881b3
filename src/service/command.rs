//! The v2 envelope: one command per request, or a loop of them.
//!
//! In: a body. Out: whatever the command's row of OFFERS writes. No command is named here: only the table knows them.

use super::offer::{self, View};
use super::{Out, ServeError, finish, promisor};
use crate::pktline::PacketReader;
use crate::protocol::ProtocolError;
use crate::protocol::command::Envelope;
use crate::repo::Repository;
use crate::stream::Body;
use bstr::ByteSlice;

/// The rest of a request: the arguments of its command.
pub struct Arguments<'b> {
    body: &'b mut dyn Body,
    /// Whether there are any: a request may end right after its capabilities (V2-07).
    present: bool,
    /// Whether the client will fetch objects that are missing here from a promisor remote of ours (V2-18).
    pub promised_elsewhere: bool,
}

impl Arguments<'_> {
    /// Parses the arguments and reads the body to its end, so that an answer may follow.
    ///
    /// # Errors
    /// What `parse` reports, or when the body cannot be read.
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

/// What one request of a conversation hands on to the next.
#[derive(Debug, Clone, Copy, Default)]
pub struct Conversation {
    /// Whether the client has accepted a promisor remote of ours. git says so with ls-refs and does not repeat it with
    /// its fetch, so in a stateless conversation the fetch does not know.
    promised_elsewhere: bool,
}

/// Serves one request. Returns `false` if there was none: the client has nothing more to ask.
///
/// # Errors
/// A request that cannot be served, and whatever the command reports.
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
