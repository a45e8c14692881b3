//! One exchange with a client, from its first byte to the line that the audit log keeps of it.
//!
//! In: both ends, as the edge opened them. Out: what every station on the way needs at hand. Nothing is read or sent
//! here.

use super::Response;
use super::body::HttpBody;
use crate::audit::Summary;
use crate::service::ErrorChannel;

/// What is read from a client and what is sent to it, how it can be told of an error, and what is noted.
pub struct Exchange<'a> {
    /// The body of the request.
    pub body: HttpBody<'a>,
    /// The answer.
    pub response: Response<'a>,
    /// How an error is reported at this point of the answer.
    pub channel: ErrorChannel,
    /// What the audit line will say.
    pub summary: Summary,
}

impl<'a> Exchange<'a> {
    /// An exchange of which nothing has been read or sent.
    pub fn new(body: HttpBody<'a>, response: Response<'a>, summary: Summary) -> Self {
        Exchange { body, response, channel: ErrorChannel::Status, summary }
    }
}
