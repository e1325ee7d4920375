//! Words about a Neo4j server that is to hold the graph as well.
//!
//! Never takes a password: it is in a file. Always: what cannot be used is refused with one sentence and the exit code of
//! wrong words, before anything is made or mounted.

use std::path::{Path, PathBuf};

use clap::Args;

use dgfs_index::neo4j::settings::{Neo4jConfig, USER_DEFAULT};

use crate::cli::{CODE_USAGE, Failure};
use crate::mount::options::GraphOptions;

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Neo4jArgs {
    /// Keep the graph in this Neo4j server as well, for Cypher: bolt://HOST:PORT, or bolt+s://HOST:PORT over TLS
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) graph: Option<String>,
    /// The user of that server [default: neo4j]
    #[arg(long, value_name = "NAME")]
    pub(crate) graph_user: Option<String>,
    /// The file whose first line is the password; others must not be able to read it
    #[arg(long, value_name = "FILE")]
    pub(crate) graph_password_file: Option<PathBuf>,
    /// PEM file of the authority that signed the server's certificate [default: those that the machine trusts]
    #[arg(long, value_name = "FILE")]
    pub(crate) graph_ca: Option<PathBuf>,
}

impl Neo4jArgs {
    /// The server, with what `-o` says where the words say nothing; none: there is none. Nothing is asked of it: it may be down.
    ///
    /// # Errors
    /// One sentence, with the exit code of wrong words.
    pub(crate) fn config(&self, options: &GraphOptions) -> Result<Option<Neo4jConfig>, Failure> {
        let user = self.graph_user.clone().or_else(|| options.user.clone());
        let password_file =
            self.graph_password_file.clone().or_else(|| options.password_file.clone().map(PathBuf::from));
        let ca = self.graph_ca.clone().or_else(|| options.ca.clone().map(PathBuf::from));
        let Some(address) = self.graph.clone().or_else(|| options.address.clone()) else {
            if user.is_some() || password_file.is_some() || ca.is_some() {
                return Err(misused(
                    "--graph-user, --graph-password-file and --graph-ca need --graph bolt://HOST:PORT",
                ));
            }
            return Ok(None);
        };
        let Some(password_file) = password_file else {
            return Err(misused("--graph needs --graph-password-file FILE: the password is its first line"));
        };
        let user = user.unwrap_or_else(|| USER_DEFAULT.to_owned());
        let here = std::env::current_dir().map_err(Failure::new)?;
        let config = Neo4jConfig { address, user, password_file, ca }.below(&here);
        config.check().map_err(misused)?;
        Ok(Some(config))
    }
}

/// The graph of a cluster is followed by its index services, not by its mounts.
pub(crate) fn refuse_for_cluster(config: Option<&Neo4jConfig>, file: &Path) -> Result<(), Failure> {
    match config {
        Some(config) => Err(misused(format!(
            "--graph {} is for embedded volumes: of the cluster of {} the index service keeps the graph, say [neo4j] in its \
             index.toml (or dgfs up --graph)",
            config.address,
            file.display()
        ))),
        None => Ok(()),
    }
}

fn misused(sentence: impl std::fmt::Display) -> Failure {
    Failure::new(sentence).with_code(CODE_USAGE)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};

    use super::{Neo4jArgs, refuse_for_cluster};
    use crate::mount::options::GraphOptions;

    #[test]
    fn words_come_before_options_and_what_is_missing_is_said() {
        let file = std::env::temp_dir().join(format!("dgfs-graph-args-{}", std::process::id()));
        std::fs::write(&file, "secret\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let none = GraphOptions::default();
        assert!(Neo4jArgs::default().config(&none).unwrap().is_none());
        let refused = |args: &Neo4jArgs| {
            let failure = args.config(&none).unwrap_err();
            assert_eq!(failure.code, 2);
            failure.sentence
        };
        let graph = |address: &str| Neo4jArgs { graph: Some(address.to_owned()), ..Neo4jArgs::default() };
        assert!(refused(&graph("bolt://h:1")).contains("needs --graph-password-file"));
        let with_file = |args| Neo4jArgs { graph_password_file: Some(file.clone()), ..args };
        assert!(refused(&with_file(graph("neo4j://h:1"))).contains("must begin with bolt://"));
        assert!(refused(&with_file(graph("bolt://me:word@h:1"))).contains("must not hold a user"));
        assert!(refused(&with_file(Neo4jArgs::default())).contains("need --graph"));
        let gone = Neo4jArgs { graph_password_file: Some(PathBuf::from("/gone/for/good")), ..graph("bolt://h:1") };
        assert!(refused(&gone).contains("cannot be read"));
        let options = GraphOptions {
            address: Some("bolt://other:2".to_owned()),
            user: Some("ada".to_owned()),
            password_file: Some(file.display().to_string()),
            ca: None,
        };
        let config = graph("bolt://h:1").config(&options).unwrap().unwrap();
        assert_eq!(
            (config.address.as_str(), config.user.as_str(), &config.password_file),
            ("bolt://h:1", "ada", &file)
        );
        assert_eq!(refuse_for_cluster(Some(&config), Path::new("client.toml")).unwrap_err().code, 2);
        std::fs::remove_file(file).unwrap();
    }
}
