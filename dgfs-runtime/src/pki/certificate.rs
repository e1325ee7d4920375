//! What a certificate of ours says: whose it is, for which role, from when to
//! when, and which cluster signed it.
//!
//! Never decides trust: signatures are checked by rustls. Always: a certificate
//! that says less than this is refused, with a sentence a person can act on.

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

use crate::channel::Role;
use crate::pki::PkiError;

/// Begins the common name of an authority; the cluster's id follows.
pub(crate) const AUTHORITY_PREFIX: &str = "dgfs cluster ";

/// The words of one leaf certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateWords {
    pub(crate) role: Role,
    pub(crate) name: String,
    /// Id of the cluster whose authority signed it (as it claims).
    pub(crate) cluster: String,
    /// Seconds since 1970.
    pub(crate) valid_from_s: i64,
    /// Seconds since 1970.
    pub(crate) valid_until_s: i64,
}

impl CertificateWords {
    /// Reads a leaf certificate.
    pub(crate) fn read(der: &[u8]) -> Result<Self, PkiError> {
        let certificate = parse(der)?;
        let subject = certificate.subject();
        let name = common_name(subject).unwrap_or("without a name").to_owned();
        let unit = subject.iter_organizational_unit().next().and_then(|unit| unit.as_str().ok());
        let Some(role) = unit.and_then(Role::from_name) else {
            return Err(PkiError::NotOurs { name, missing: "a role (meta, stored, index or client)" });
        };
        let issuer = common_name(certificate.issuer()).unwrap_or_default();
        let Some(cluster) = issuer.strip_prefix(AUTHORITY_PREFIX) else {
            return Err(PkiError::NotOurs { name, missing: "a cluster" });
        };
        let cluster = cluster.to_owned();
        let validity = certificate.validity();
        Ok(Self {
            role,
            name,
            cluster,
            valid_from_s: validity.not_before.timestamp(),
            valid_until_s: validity.not_after.timestamp(),
        })
    }

    /// Refuses a certificate outside of its time.
    pub(crate) fn check_time(&self, now_s: i64) -> Result<(), PkiError> {
        if now_s > self.valid_until_s {
            return Err(PkiError::Expired {
                role: self.role,
                name: self.name.clone(),
                date: date_of(self.valid_until_s),
            });
        }
        if now_s < self.valid_from_s {
            return Err(PkiError::NotYet {
                role: self.role,
                name: self.name.clone(),
                date: date_of(self.valid_from_s),
            });
        }
        Ok(())
    }

    /// Refuses a certificate of another cluster than `cluster`.
    pub(crate) fn check_cluster(&self, cluster: &str) -> Result<(), PkiError> {
        if self.cluster == cluster {
            return Ok(());
        }
        Err(PkiError::OtherCluster {
            role: self.role,
            name: self.name.clone(),
            theirs: self.cluster.clone(),
            ours: cluster.to_owned(),
        })
    }

    /// Refuses a certificate whose role is not in `roles`.
    pub(crate) fn check_role(&self, roles: &[Role]) -> Result<(), PkiError> {
        if roles.contains(&self.role) {
            return Ok(());
        }
        let wanted: Vec<&str> = roles.iter().map(|role| role.name()).collect();
        Err(PkiError::WrongRole { role: self.role, name: self.name.clone(), wanted: wanted.join(" or ") })
    }
}

/// The cluster's id out of an authority's certificate.
pub(crate) fn cluster_of_authority(der: &[u8]) -> Result<String, PkiError> {
    let certificate = parse(der)?;
    let name = common_name(certificate.subject()).unwrap_or_default();
    match name.strip_prefix(AUTHORITY_PREFIX) {
        Some(cluster) => Ok(cluster.to_owned()),
        None => Err(PkiError::NotOurs { name: name.to_owned(), missing: "the name of a cluster's authority" }),
    }
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, PkiError> {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(_) => Err(PkiError::Unreadable),
    }
}

fn common_name<'a>(name: &'a X509Name<'_>) -> Option<&'a str> {
    name.iter_common_name().next().and_then(|name| name.as_str().ok())
}

fn date_of(seconds: i64) -> String {
    match ASN1Time::from_timestamp(seconds) {
        Ok(time) => time.to_datetime().date().to_string(),
        Err(_) => format!("second {seconds} of 1970"),
    }
}
