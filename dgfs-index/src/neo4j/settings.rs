//! What a person says about the Neo4j server, and whether that can be used.
//!
//! Never connects, and never shows a password: it is in a file of its own. Always: what is wrong is one sentence that names
//! the value and what was expected.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use dgfs_runtime::config::{optional_path, path};

use super::link::{LinkConfig, LinkError};

/// Permission of all users of a machine to read a file.
const OTHERS_READ: u32 = 0o004;
/// Longest password file that is read, in bytes.
const PASSWORD_FILE_MAX: u64 = 4_096;

/// The server that is to hold the graph as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neo4jConfig {
    /// `bolt://HOST:PORT`, or `bolt+s://HOST:PORT` over TLS.
    pub address: String,
    /// Who we are there.
    #[serde(default = "user_default")]
    pub user: String,
    /// The file whose first line is the password; others on the machine must not be able to read it.
    #[serde(deserialize_with = "path")]
    pub password_file: PathBuf,
    /// PEM file of the authority that signed the server's certificate; none: those that the machine trusts.
    #[serde(default, deserialize_with = "optional_path", skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

/// Who we are there unless told otherwise.
pub const USER_DEFAULT: &str = "neo4j";

fn user_default() -> String {
    USER_DEFAULT.to_owned()
}

impl Neo4jConfig {
    /// Can this be used? Nothing is asked of the server, which may be down.
    ///
    /// # Errors
    /// [`LinkError::Config`]: the address, the password file or the authority's file.
    pub fn check(&self) -> Result<(), LinkError> {
        check_address(&self.address)?;
        read_password(&self.password_file)?;
        match &self.ca {
            Some(ca) if self.address.starts_with("bolt+s://") => check_authority(ca),
            Some(_) => {
                let said = format!("a certificate file needs a bolt+s:// address, not `{}`", self.address);
                Err(LinkError::Config(said))
            }
            None => Ok(()),
        }
    }

    /// The same with paths that are seen from `base`.
    #[must_use]
    pub fn below(self, base: &Path) -> Self {
        Self { password_file: base.join(self.password_file), ca: self.ca.map(|ca| base.join(ca)), ..self }
    }

    /// How it is reached.
    #[must_use]
    pub fn link(&self) -> LinkConfig {
        let link = LinkConfig::new(self.address.as_str(), self.user.as_str(), self.password_file.as_path());
        LinkConfig { ca: self.ca.clone(), ..link }
    }
}

pub(super) fn check_address(address: &str) -> Result<(), LinkError> {
    let rest = address.strip_prefix("bolt://").or_else(|| address.strip_prefix("bolt+s://"));
    let Some(rest) = rest else {
        let said = format!("the graph address `{address}` must begin with bolt:// or, for TLS, bolt+s://");
        return Err(LinkError::Config(said));
    };
    if rest.contains('@') {
        // The address itself is left out of the message: it may hold a password.
        let said = "the graph address must not hold a user or a password: they have settings of their own";
        return Err(LinkError::Config(said.to_owned()));
    }
    if rest.is_empty() || rest.contains(['/', '?', '#', ' ']) {
        let said = format!("the graph address `{address}` must be bolt://HOST:PORT, with nothing after the port");
        return Err(LinkError::Config(said));
    }
    Ok(())
}

pub(super) fn read_password(file: &Path) -> Result<String, LinkError> {
    let fail = |why: String| LinkError::Config(format!("the password file {} {why}", file.display()));
    let facts = std::fs::metadata(file).map_err(|error| fail(format!("cannot be read: {error}")))?;
    if facts.is_file() && facts.mode() & OTHERS_READ != 0 {
        return Err(fail("can be read by everybody on this machine: expected mode 600 or 640 (chmod 600)".to_owned()));
    }
    let length = facts.len();
    if length > PASSWORD_FILE_MAX {
        return Err(fail(format!("has {length} bytes; at most {PASSWORD_FILE_MAX} are expected")));
    }
    let text = std::fs::read_to_string(file).map_err(|error| fail(format!("cannot be read: {error}")))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        Some(_) | None => Err(fail("has no password in its first line".to_owned())),
    }
}

/// The driver takes a file without certificates for an empty list of authorities and then trusts nobody, with a message
/// that blames the server.
pub(super) fn check_authority(file: &Path) -> Result<(), LinkError> {
    let fail = |why: String| LinkError::Config(format!("the certificate file {} {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| fail(format!("cannot be read: {error}")))?;
    if text.contains("-----BEGIN CERTIFICATE-----") {
        return Ok(());
    }
    Err(fail("holds no PEM certificate".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{Neo4jConfig, USER_DEFAULT};

    #[test]
    fn a_password_that_all_can_read_and_a_certificate_without_tls_are_refused() {
        let file = std::env::temp_dir().join(format!("dgfs-neo4j-settings-{}", std::process::id()));
        std::fs::write(&file, "secret\n").unwrap();
        let config = Neo4jConfig {
            address: "bolt://localhost:7687".to_owned(),
            user: USER_DEFAULT.to_owned(),
            password_file: file.clone(),
            ca: None,
        };
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let refused = config.check().unwrap_err().to_string();
        assert!(refused.contains("can be read by everybody") && !refused.contains("secret"), "{refused}");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(config.check(), Ok(()));
        let refused = Neo4jConfig { ca: Some(file.clone()), ..config.clone() }.check().unwrap_err().to_string();
        assert!(refused.contains("needs a bolt+s:// address"), "{refused}");
        let secure = Neo4jConfig { ca: Some(file.clone()), address: "bolt+s://localhost:7687".to_owned(), ..config };
        assert!(secure.check().unwrap_err().to_string().contains("holds no PEM certificate"));
        std::fs::remove_file(file).unwrap();
    }
}
