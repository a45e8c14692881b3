//! A push certificate: the signed form of a push's ref updates (gitprotocol-pack, Push Certificate).
//!
//! In: the lines of a request between `push-cert` and `push-cert-end`. Out: its parts. No signature is verified here.

use bstr::{BStr, ByteSlice};

/// The kind of a signature, as its first line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureForm {
    /// `-----BEGIN PGP SIGNATURE-----` or `-----BEGIN PGP MESSAGE-----`.
    OpenPgp,
    /// `-----BEGIN SIGNED MESSAGE-----`.
    X509,
    /// `-----BEGIN SSH SIGNATURE-----`.
    Ssh,
}

impl SignatureForm {
    fn of(text: &[u8]) -> Option<Self> {
        let begins = |with: &str| text.starts_with(with.as_bytes());
        if begins("-----BEGIN PGP SIGNATURE-----") || begins("-----BEGIN PGP MESSAGE-----") {
            Some(SignatureForm::OpenPgp)
        } else if begins("-----BEGIN SIGNED MESSAGE-----") {
            Some(SignatureForm::X509)
        } else {
            begins("-----BEGIN SSH SIGNATURE-----").then_some(SignatureForm::Ssh)
        }
    }
}

/// A certificate, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushCertificate {
    text: Vec<u8>,
    /// Where the signed text ends and the signature begins; the end of `text` if there is no signature.
    payload: usize,
    form: Option<SignatureForm>,
}

impl PushCertificate {
    /// Takes the lines of a certificate. The last line that begins a signature ends the signed text.
    pub fn new(text: Vec<u8>) -> Self {
        let (mut at, mut payload, mut form) = (0, text.len(), None);
        for line in text.lines_with_terminator() {
            if let Some(found) = SignatureForm::of(line) {
                (payload, form) = (at, Some(found));
            }
            at += line.len();
        }
        PushCertificate { text, payload, form }
    }

    /// The whole certificate.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The signed text.
    pub fn payload(&self) -> &[u8] {
        &self.text[..self.payload]
    }

    /// The signature and its kind; `None` if there is none.
    pub fn signature(&self) -> Option<(SignatureForm, &[u8])> {
        Some((self.form?, &self.text[self.payload..]))
    }

    /// The lines with the ref updates; `None` if no empty line separates them from the headers.
    pub fn updates(&self) -> Option<impl Iterator<Item = &[u8]>> {
        let begin = self.text.find(b"\n\n")? + 2;
        Some(self.text.get(begin..self.payload).unwrap_or_default().lines_with_terminator().map(without_newline))
    }

    /// The nonce in the signed headers.
    pub fn nonce(&self) -> Option<&BStr> {
        headers(self.payload(), b"nonce").next()
    }

    /// The push options in the headers, in order.
    pub fn options(&self) -> impl Iterator<Item = &BStr> {
        headers(&self.text, b"push-option")
    }
}

fn without_newline(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

/// The values of a header, up to the empty line.
fn headers<'a>(text: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a BStr> {
    let lines = text.lines_with_terminator().map(without_newline).take_while(|line| !line.is_empty());
    lines.filter_map(move |line| Some(line.strip_prefix(name)?.strip_prefix(b" ")?.as_bstr()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, updates: Option<&[&str]>, nonce: Option<&str>, options: &[&str], form: Option<SignatureForm>) {
        let certificate = PushCertificate::new(text.into());
        let lines = certificate.updates().map(|lines| lines.map(ToOwned::to_owned).collect::<Vec<_>>());
        let expected = updates.map(|lines| lines.iter().map(|line| line.as_bytes().to_vec()).collect::<Vec<_>>());
        assert_eq!(lines, expected, "{text}");
        assert_eq!(certificate.nonce(), nonce.map(Into::into), "{text}");
        assert_eq!(certificate.options().collect::<Vec<_>>(), options, "{text}");
        assert_eq!(certificate.signature().map(|(form, _)| form), form, "{text}");
        let signature = certificate.signature().map(|(_, text)| text).unwrap_or_default();
        assert_eq!([certificate.payload(), signature].concat(), text.as_bytes());
    }

    #[test]
    fn a_certificate_has_headers_updates_and_a_signature() {
        let pgp = "-----BEGIN PGP SIGNATURE-----\nx\n";
        let ssh = "-----BEGIN SSH SIGNATURE-----\nx\n";
        let head = "certificate version 0.1\nnonce 1-a\npush-option a b\npush-option c\n";
        let (one, two) = (Some("1-a"), ["a b", "c"]);
        check(
            &format!("{head}\nO A r\nA B s\n{pgp}"),
            Some(&["O A r", "A B s"]),
            one,
            &two,
            Some(SignatureForm::OpenPgp),
        );
        check(&format!("{head}\nO A r\n{ssh}"), Some(&["O A r"]), one, &two, Some(SignatureForm::Ssh));
        check(&format!("{head}\nO A r\n"), Some(&["O A r"]), one, &two, None);
        check(
            &format!("{head}\nO A r\n{pgp}{ssh}"),
            Some(&["O A r", pgp.split('\n').next().unwrap(), "x"]),
            one,
            &two,
            Some(SignatureForm::Ssh),
        );
        check(&format!("{head}{pgp}"), None, one, &two, Some(SignatureForm::OpenPgp));
        check("", None, None, &[], None);
        check("v\n\nnonce 2-b\n", Some(&["nonce 2-b"]), None, &[], None);
        check(pgp, None, None, &[], Some(SignatureForm::OpenPgp));
        // An empty line inside the signature does not end the headers.
        check("v\n-----BEGIN SIGNED MESSAGE-----\n\nx", Some(&[]), None, &[], Some(SignatureForm::X509));
    }
}
