//! Ref updates that a hook carries out in the server's place (githooks, proc-receive).
//!
//! In: open verdicts, once the objects are in place. Out: the hook's answers as verdicts; updates that the hook hands
//! back stay open. Nothing here fails because the client has gone.

use super::client::{ChildOutput, Client};
use super::verdicts::{State, Verdict, Verdicts};
use crate::children::{Dialogue, Say};
use crate::protocol::proc_receive::{Conversation, Job, Next, Outcome, Reply};
use crate::protocol::push::PushRequest;
use crate::protocol::report::Refusal;
use crate::repo::Repository;
use crate::repo::hooks::{self, Answer, Hook};
use std::io;

/// Selects the hook's updates: those that are still open and that receive.procReceiveRefs matches (PR-01).
pub(super) fn select(repository: &Repository, verdicts: &Verdicts<'_>) -> Vec<bool> {
    let selectors = &repository.settings.proc_receive_refs;
    let selected =
        |verdict: &Verdict<'_>| verdict.is_open() && selectors.iter().any(|selector| selector.selects(verdict.update));
    verdicts.iter().map(selected).collect()
}

/// Leaves the selected updates to the hook, as far as they are still open.
pub(super) fn run(
    repository: &Repository,
    request: &PushRequest,
    selected: &[bool],
    verdicts: &mut Verdicts<'_>,
    client: &mut Client<'_>,
) -> io::Result<()> {
    let selected: Vec<bool> =
        verdicts.iter().zip(selected).map(|(verdict, selected)| *selected && verdict.is_open()).collect();
    if !selected.contains(&true) {
        return Ok(());
    }
    let outcome = converse(repository, request, &selected, verdicts, client)?;
    let well = outcome.as_ref().is_some_and(|(outcome, ended_well)| *ended_well && outcome.is_well(&selected));
    let (replies, complete) = match outcome {
        Some((outcome, _)) => (outcome.replies, outcome.complete),
        None => (vec![Reply::Silence; selected.len()], false),
    };
    for ((verdict, reply), selected) in verdicts.iter_mut().zip(replies).zip(selected) {
        if !verdict.is_open() {
            continue;
        }
        match reply {
            Reply::Refused(reason) => verdict.state = State::Refused(Refusal::Said(reason)),
            Reply::Done(reports) => verdict.state = State::Told(reports),
            Reply::Silence if selected && complete => verdict.state = State::Refused(Refusal::ProcReceiveSilent),
            Reply::Silence if selected => verdict.state = State::Refused(Refusal::ProcReceiveFailed),
            // The server's own updates, from the start or handed back: with an atomic push they fail as well (PR-10).
            Reply::Silence | Reply::FallThrough if !well && request.capabilities.atomic => {
                verdict.state = State::Refused(Refusal::ProcReceiveFailed);
            }
            Reply::Silence | Reply::FallThrough => {}
        }
    }
    Ok(())
}

/// Returns what the hook said and whether it ended successfully, or `None` if it could not be run.
fn converse(
    repository: &Repository,
    request: &PushRequest,
    selected: &[bool],
    verdicts: &Verdicts<'_>,
    client: &mut Client<'_>,
) -> io::Result<Option<(Outcome, bool)>> {
    let updates: Vec<_> =
        verdicts.iter().zip(selected).map(|(verdict, selected)| (verdict.update, *selected)).collect();
    let errand = Job {
        updates: &updates,
        options: &request.options,
        atomic: request.capabilities.atomic,
        push_options: request.capabilities.push_options,
        hash: repository.hash(),
        limits: &repository.context.limits,
    };
    let mut exchange = Exchange(Conversation::new(errand));
    let answer = hooks::converse(repository, Hook::ProcReceive, &mut exchange, &mut ChildOutput(client))?;
    let Some(answer) = answer else {
        client.message("error: cannot find hook 'proc-receive'")?;
        return Ok(None);
    };
    super::tell_of(Hook::ProcReceive, &answer, client)?;
    if matches!(answer, Answer::NotRun(_)) {
        return Ok(None);
    }
    let outcome = exchange.0.outcome();
    if !outcome.complaints.is_empty() {
        client.message(&format!("error: {}", outcome.complaints.join("\n")))?;
    }
    Ok(Some((outcome, answer.agreed())))
}

/// The conversation with the hook, through two pipes.
struct Exchange<'a>(Conversation<'a>);

impl Dialogue for Exchange<'_> {
    fn say(&mut self) -> Say {
        match self.0.tell() {
            Next::Bytes(bytes) => Say::Words(bytes),
            Next::Hear => Say::Listen,
            Next::Over => Say::Over,
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.0.hear(bytes);
    }
}
