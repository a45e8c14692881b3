//! A push certificate for hooks: stored as a blob, its signature verified and its nonce judged, all passed on in
//! variables.
//!
//! In: a request that may carry a certificate. Out: variables for pre-receive and post-receive. Nothing here ever
//! refuses a push: hooks decide.

use super::client::{ChildOutput, Client};
use super::options_of;
use crate::durable;
use crate::pack::unpack::Unpacker;
use crate::protocol::certificate::PushCertificate;
use crate::protocol::push::PushRequest;
use crate::repo::Repository;
use crate::repo::hooks::{self, Hook};
use crate::repo::quarantine::Quarantine;
use crate::repo::signature::{self, Signed};
use crate::service::nonce::{self, NonceStatus};
use gix_hash::ObjectId;
use std::ffi::OsString;
use std::io;

/// The variables, made when a hook first needs them.
pub(super) struct Certified<'a> {
    repository: &'a Repository,
    certificate: Option<&'a PushCertificate>,
    environment: Option<Vec<(OsString, OsString)>>,
}

impl<'a> Certified<'a> {
    pub(super) fn of(repository: &'a Repository, request: &'a PushRequest) -> Self {
        Certified { repository, certificate: request.certificate.as_ref(), environment: None }
    }

    /// The variables for this hook (PC-08); empty if the hook does not exist.
    pub(super) fn environment(&mut self, hook: Hook, client: &mut Client<'_>) -> io::Result<&[(OsString, OsString)]> {
        let Some(certificate) = self.certificate else { return Ok(&[]) };
        if self.environment.is_none() && hooks::exists(self.repository, hook) {
            self.environment = Some(judged(self.repository, certificate, client)?);
        }
        Ok(self.environment.as_deref().unwrap_or_default())
    }
}

/// The file in which a signature is verified: not the name of an object, in a quarantine that is removed afterwards.
const SIGNATURE: &str = ".signature";

fn judged(
    repository: &Repository,
    certificate: &PushCertificate,
    client: &mut Client<'_>,
) -> io::Result<Vec<(OsString, OsString)>> {
    let stored = match Quarantine::open(repository) {
        Ok(quarantine) => {
            let signed = signed(repository, certificate, &quarantine, client)?;
            store(repository, certificate, quarantine).map(|id| (id, signed))
        }
        Err(error) => Err(io::Error::other(format!("{error:#}"))),
    };
    let (id, signed) = match stored {
        Ok(stored) => stored,
        Err(error) => {
            client.fault(&format!("unable to store the push certificate: {error}"))?;
            return Ok(Vec::new());
        }
    };
    let mut environment: Vec<(OsString, OsString)> = vec![
        ("GIT_PUSH_CERT".into(), id.to_string().into()),
        ("GIT_PUSH_CERT_SIGNER".into(), hooks::word(&signed.signer)),
        ("GIT_PUSH_CERT_KEY".into(), hooks::word(&signed.key)),
        ("GIT_PUSH_CERT_STATUS".into(), signed.status.to_string().into()),
    ];
    let (status, nonce) = nonce::judge(repository, certificate.nonce());
    if let Some(nonce) = nonce {
        environment.push(("GIT_PUSH_CERT_NONCE".into(), nonce.into()));
        environment.push(("GIT_PUSH_CERT_NONCE_STATUS".into(), status.word().into()));
        if let NonceStatus::Slop(seconds) = status {
            environment.push(("GIT_PUSH_CERT_NONCE_SLOP".into(), seconds.to_string().into()));
        }
    }
    Ok(environment)
}

fn signed(
    repository: &Repository,
    certificate: &PushCertificate,
    quarantine: &Quarantine,
    client: &mut Client<'_>,
) -> io::Result<Signed> {
    let Some((form, signature)) = certificate.signature() else { return Ok(Signed::unchecked()) };
    let path = quarantine.path().join(SIGNATURE);
    let written = durable::create(&path, 0o600, crate::durable::Sharing::Umask)
        .and_then(|mut file| durable::write_all(&mut file, signature));
    if let Err(error) = written {
        client.message(&format!("error: could not create temporary file: {error}"))?;
        return Ok(Signed::unchecked());
    }
    let mut complaints = Vec::new();
    let payload = certificate.payload();
    let mut complain = |text| complaints.push(text);
    let signed = signature::verify(repository, form, payload, &path, &mut ChildOutput(client), &mut complain)?;
    complaints.iter().try_for_each(|text| client.message(text))?;
    Ok(signed)
}

/// Stores the certificate as an object of the repository, even if the push is refused later, so that it can be examined
/// (PC-05).
fn store(repository: &Repository, certificate: &PushCertificate, quarantine: Quarantine) -> io::Result<ObjectId> {
    let text = certificate.text();
    let id = gix_object::compute_hash(repository.hash(), gix_object::Kind::Blob, text).map_err(io::Error::other)?;
    let options = options_of(repository, &quarantine, None);
    let mut unpacker = Unpacker::new(&options);
    unpacker.write(&id, gix_object::Kind::Blob, text)?;
    unpacker.finish()?;
    quarantine.migrate()?;
    Ok(id)
}
