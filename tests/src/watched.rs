//! A mount whose numbers can be read while it works.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use crate::cluster::Cluster;
use crate::mount::Mount;
use crate::network::Place;

/// A mount of a cluster with metrics.
pub struct Watched {
    /// The mount.
    pub mount: Mount,
    address: String,
}

impl Watched {
    /// A further mount of a cluster.
    ///
    /// # Panics
    /// When it cannot be mounted.
    pub fn of(cluster: &mut Cluster) -> Self {
        Self::at(cluster, Ipv4Addr::LOCALHOST, None)
    }

    /// A further mount of a cluster on a host of a network, whose address this is.
    ///
    /// # Panics
    /// When it cannot be mounted.
    pub fn at(cluster: &mut Cluster, address: Ipv4Addr, place: Option<Place>) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("{address}:{port}");
        let mount = cluster.mount_at(place, &["--metrics", &address]);
        Self { mount, address }
    }

    /// `HOST:PORT` of its numbers.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// All numbers, as Prometheus reads them.
    ///
    /// # Panics
    /// When the mount does not answer.
    #[must_use]
    pub fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: dgfs\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// One number without labels.
    ///
    /// # Panics
    /// When there is none of that name.
    #[must_use]
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.metrics();
        let value =
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("no {name} in:\n{text}")) as u64
    }

    /// Nothing that it made ahead of the metadata service was refused, or ended otherwise than it was told.
    ///
    /// # Panics
    /// When something was.
    #[track_caller]
    pub fn assert_told_right(&self) {
        for name in ["dgfs_client_kept_back_refused_total", "dgfs_client_kept_back_otherwise_total"] {
            assert_eq!(self.metric(name), 0, "{name}");
        }
    }
}
