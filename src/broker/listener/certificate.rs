//! The name in a client's certificate: the common name of its subject, found by walking the DER (RFC 5280, 4.1).
//!
//! Who calls this has had the certificate verified; nothing here decides whether to believe it. Crates that read all of
//! X.509 bring a dozen others along, and this is one field.

const INTEGER: u8 = 0x02;
const OBJECT_ID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0C;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]`, constructed: the version.
const VERSION: u8 = 0xA0;
/// 2.5.4.3, `commonName` (X.520).
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// The first common name of the subject, as Mosquitto takes it too. None when there is none, or when it is no name for
/// a user: empty, or with a control character in it.
pub(super) fn common_name(der: &[u8]) -> Option<&str> {
    let certificate = Der(der).inner(SEQUENCE)?;
    let mut signed = { certificate }.inner(SEQUENCE)?;
    if signed.0.first() == Some(&VERSION) {
        signed.inner(VERSION)?;
    }
    signed.inner(INTEGER)?; // serial number
    signed.inner(SEQUENCE)?; // signature algorithm
    signed.inner(SEQUENCE)?; // issuer
    signed.inner(SEQUENCE)?; // validity
    let mut subject = signed.inner(SEQUENCE)?;
    while let Some(mut relative) = subject.inner(SET) {
        while let Some(mut attribute) = relative.inner(SEQUENCE) {
            if attribute.inner(OBJECT_ID)?.0 != COMMON_NAME {
                continue;
            }
            let (kind, text) = attribute.next()?;
            // The other string types are of the last century.
            let known = [UTF8_STRING, PRINTABLE_STRING, IA5_STRING].contains(&kind);
            let name = std::str::from_utf8(text).ok().filter(|_| known)?;
            return (!name.is_empty() && !name.contains(char::is_control)).then_some(name);
        }
    }
    None
}

/// Values in DER that are yet to be read (X.690, 8.1).
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next value: its tag and its content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7F => (usize::from(first), rest),
            // No certificate has a length of more than four bytes.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next value, which has to have this tag.
    fn inner(&mut self, tag: u8) -> Option<Der<'a>> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| Der(content))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn certificate(names: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["plant.example".into()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, name) in names {
            params.distinguished_name.push(kind.clone(), *name);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_common_name_is_found_among_others() {
        let names =
            [(DnType::OrganizationName, "Plant"), (DnType::CommonName, "Zähler 7"), (DnType::CountryName, "DE")];
        assert_eq!(common_name(&certificate(&names)), Some("Zähler 7"));
        let long = "n".repeat(300);
        assert_eq!(common_name(&certificate(&[(DnType::CommonName, &long)])), Some(&*long));
    }

    #[test]
    fn what_is_no_name_is_none() {
        assert_eq!(common_name(&certificate(&[(DnType::OrganizationName, "Plant")])), None);
        assert_eq!(common_name(&certificate(&[(DnType::CommonName, "a\0b")])), None);
        assert_eq!(common_name(&certificate(&[(DnType::CommonName, "")])), None);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let good = certificate(&[(DnType::CommonName, "ada")]);
        let mut random = fastrand::Rng::with_seed(1);
        for cut in 0..good.len() {
            common_name(&good[..cut]);
            let mut bad = good.clone();
            bad[cut] = random.u8(..);
            common_name(&bad);
        }
        assert_eq!(common_name(&[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF]), None);
    }
}
