//! A network of the test's own: hosts, each a network namespace, on a bridge that the test's machine is on too. Links can be cut,
//! and what one host sends to one address can be lost.
//!
//! Never reaches another network, and never believes that a link is cut or mended: packets tell, both ways, before a call returns.
//! Always gone after the test, also after a panic; what a killed test run left is removed by the next one.
//!
//! Hosts know each other's hardware addresses for ever. If they had to ask, a link that is cut one way would soon carry nothing
//! the other way either, since nobody sends to an address that does not answer.

use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::Once;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::{lives, run, spawn, wait_until};
use crate::sys::is_root;

/// Begins the name of everything made here. The owner's pid follows; with it and one more letter and a number the name of an
/// interface must fit into 15 bytes.
const PREFIX: &str = "dgfs";
/// Where `ip` keeps namespaces.
const SPACES: &str = "/run/netns";
/// Where the kernel lists interfaces.
const INTERFACES: &str = "/sys/class/net";
/// How long a tool may take.
const TOOL: Duration = Duration::from_secs(20);
/// How long a link may take to carry packets, or to carry none.
const TURNS: Duration = Duration::from_secs(10);
/// A packet takes microseconds: what has not come by then was dropped.
const PACKET: Duration = Duration::from_millis(100);
/// Packets of which some arrive and some do not, where a link loses some.
const MANY: usize = 100;
/// Of a hundred packets so many are lost, where a link loses some.
const LOST_PERCENT: u64 = 8;
/// Packets that must all be lost before a direction counts as cut.
const LOST: usize = 3;

/// The last byte of the machine's further address.
const SERVICES: usize = 254;
/// The last byte of a hardware address that nobody has.
const NOBODY: usize = 253;

/// What a link does not carry any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Anything.
    BothWays,
    /// What its host sends.
    FromIt,
    /// What is sent to its host.
    TowardsIt,
}

/// The network. A test process has one at a time.
pub struct Network {
    /// The first three bytes of all addresses.
    net: [u8; 3],
    machine: UdpSocket,
    services: UdpSocket,
    hosts: Vec<UdpSocket>,
    // Last: removed after the sockets, which lie in it.
    _made: Made,
}

impl Network {
    /// Makes it with so many hosts, numbered from 0.
    #[must_use]
    #[track_caller]
    pub fn new(hosts: usize) -> Self {
        static SWEPT: Once = Once::new();
        assert!(is_root(), "making network namespaces needs root: run the tests as root");
        SWEPT.call_once(sweep);
        let net = free_net();
        let made = Made;
        tool("ip", &format!("link add {} address {} type bridge", bridge(), hardware(net, 0)));
        tool("ip", &format!("address add {}/24 dev {}", machine_address(net), bridge()));
        tool("ip", &format!("address add {}/24 dev {}", services_address(net), bridge()));
        tool("ip", &format!("link set dev {} up", bridge()));
        for host in 0..hosts {
            make_host(net, host);
        }
        for host in 0..hosts {
            tool("ip", &format!("neighbour add {} dev {}", neighbour(net, host + 1), bridge()));
            for other in (0..=hosts).chain([SERVICES]).filter(|other| *other != host + 1) {
                tool("ip", &format!("-n {} neighbour add {} dev eth0", space(host), neighbour(net, other)));
            }
        }
        let machine = UdpSocket::bind((machine_address(net), 0)).expect("bind a socket to the address of the bridge");
        let services = UdpSocket::bind((services_address(net), 0)).expect("bind a socket to the address for services");
        let sockets = (0..hosts).map(|host| socket_in(host, address(net, host))).collect();
        let network = Self { net, machine, services, hosts: sockets, _made: made };
        (0..hosts).for_each(|host| network.wait_until_it_carries(host, (true, true)));
        network
    }

    /// The address of the test's machine in it.
    #[must_use]
    pub fn machine(&self) -> Ipv4Addr {
        machine_address(self.net)
    }

    /// A further address of the test's machine, for services that hosts must be able to lose while the machine reaches the hosts.
    #[must_use]
    pub fn services(&self) -> Ipv4Addr {
        services_address(self.net)
    }

    /// A host's address.
    #[must_use]
    pub fn address(&self, host: usize) -> Ipv4Addr {
        address(self.net, host)
    }

    /// Spawns `command` on a host, to die with this process.
    ///
    /// Only its network is another one. `ip netns exec` would give it mounts of its own, too, and with them a hold on every mount
    /// that another test has at that moment.
    ///
    /// # Errors
    /// Those of spawning.
    pub fn spawn(&self, host: usize, mut command: Command) -> std::io::Result<Child> {
        self.place(host).send(&mut command);
        spawn(command)
    }

    /// Where its processes run.
    #[must_use]
    pub fn place(&self, host: usize) -> Place {
        assert!(host < self.hosts.len(), "the network has no host {host}");
        Place(host)
    }

    /// From now on nothing of what a host sends to this address of the network arrives; nobody is told.
    ///
    /// Packets go to a hardware address that nobody has. All other ways are as before.
    #[track_caller]
    pub fn lose(&self, host: usize, to: Ipv4Addr) {
        self.send_to(host, to, NOBODY);
        self.wait_until_it_reaches(host, to, false);
    }

    /// Takes a loss back.
    #[track_caller]
    pub fn find(&self, host: usize, to: Ipv4Addr) {
        let last = usize::from(to.octets()[3]);
        let at = if last == SERVICES || last == 1 { 0 } else { last - 1 };
        self.send_to(host, to, at);
        self.wait_until_it_reaches(host, to, true);
    }

    /// From now on a part of what a host sends to this address of the network is lost by chance.
    #[track_caller]
    pub fn lose_some(&self, host: usize, to: Ipv4Addr) {
        let space = space(host);
        tool("tc", &format!("-n {space} qdisc add dev eth0 clsact"));
        let words = ["-n", &space, "filter", "add", "dev", "eth0", "egress", "bpf", "direct-action", "bytecode"];
        let program = losing(to);
        tool_of("tc", &[&words[..], &[&program]].concat());
        let (from, target) = self.both_ends(host, to);
        let what = format!("some of what host {host} sends to {to} arrives and some does not");
        wait_until(&what, TURNS, || {
            let arrived = (0..MANY).filter(|_| sent_alone(from, target)).count();
            (1..MANY).contains(&arrived)
        });
    }

    /// Takes this loss back.
    #[track_caller]
    pub fn lose_none(&self, host: usize) {
        tool("tc", &format!("-n {} qdisc delete dev eth0 clsact", space(host)));
    }

    fn send_to(&self, host: usize, to: Ipv4Addr, at: usize) {
        let hardware = hardware(self.net, at);
        let words = format!("-n {} neighbour replace {to} lladdr {hardware} nud permanent dev eth0", space(host));
        tool("ip", &words);
    }

    #[track_caller]
    fn wait_until_it_reaches(&self, host: usize, to: Ipv4Addr, reaches: bool) {
        let (from, target) = self.both_ends(host, to);
        let what = format!("what host {host} sends to {to} arrives: {reaches}");
        wait_until(&what, TURNS, || arrives(from, target) == reaches);
    }

    /// Sockets of a host and of whoever has an address.
    #[track_caller]
    fn both_ends(&self, host: usize, to: Ipv4Addr) -> (&UdpSocket, &UdpSocket) {
        let sockets = self.hosts.iter().chain([&self.machine, &self.services]);
        let mut sockets = sockets.filter(|socket| socket.local_addr().is_ok_and(|address| address.ip() == to));
        (&self.hosts[host], sockets.next().unwrap_or_else(|| panic!("{to} is no address of the network")))
    }

    /// Cuts a host's link, which was whole; nobody is told.
    #[track_caller]
    pub fn cut(&self, host: usize, cut: Cut) {
        // A queue that holds nothing drops everything.
        match cut {
            Cut::BothWays => tool("ip", &format!("link set dev {} down", port(host))),
            Cut::FromIt => tool("tc", &format!("-n {} qdisc add dev eth0 root pfifo limit 0", space(host))),
            Cut::TowardsIt => tool("tc", &format!("qdisc add dev {} root pfifo limit 0", port(host))),
        }
        let carries = match cut {
            Cut::BothWays => (false, false),
            Cut::FromIt => (false, true),
            Cut::TowardsIt => (true, false),
        };
        self.wait_until_it_carries(host, carries);
    }

    /// Takes a cut back.
    #[track_caller]
    pub fn mend(&self, host: usize, cut: Cut) {
        match cut {
            Cut::BothWays => tool("ip", &format!("link set dev {} up", port(host))),
            Cut::FromIt => tool("tc", &format!("-n {} qdisc delete dev eth0 root", space(host))),
            Cut::TowardsIt => tool("tc", &format!("qdisc delete dev {} root", port(host))),
        }
        self.wait_until_it_carries(host, (true, true));
    }

    /// What is sent by the host, and what is sent to it.
    #[track_caller]
    fn wait_until_it_carries(&self, host: usize, (from, towards): (bool, bool)) {
        let socket = &self.hosts[host];
        let what = format!("the link of host {host} carries what it sends: {from}, what is sent to it: {towards}");
        wait_until(&what, TURNS, || {
            arrives(socket, &self.machine) == from && arrives(&self.machine, socket) == towards
        });
    }
}

/// A host, for commands that somebody else spawns.
#[derive(Clone, Copy, Debug)]
pub struct Place(usize);

impl Place {
    /// `command` runs there, once it is spawned.
    pub fn send(self, command: &mut Command) {
        let space = open_space(self.0);
        let enter = move || {
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).map_err(std::io::Error::from)
        };
        // SAFETY: between fork and exec only setns(2) is called, which allocates nothing and takes no lock.
        unsafe { command.pre_exec(enter) };
    }
}

/// Everything of this process that has a name; gone when it is dropped.
struct Made;

impl Drop for Made {
    fn drop(&mut self) {
        remove(|owner| owner == std::process::id());
    }
}

/// Removes what processes left that are gone, also those that had our number.
fn sweep() {
    remove(|owner| owner == std::process::id() || !lives(owner));
}

fn remove(is_chosen: impl Fn(u32) -> bool) {
    let names = |directory: &str| -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| owner(name).is_some_and(&is_chosen)).collect()
    };
    // A link ends with either of its ends, at once; with its namespace it ends some time later.
    for name in names(INTERFACES) {
        let _ = Command::new("ip").args(["link", "delete", "dev", &name]).output();
    }
    for name in names(SPACES) {
        let _ = Command::new("ip").args(["netns", "delete", &name]).output();
    }
}

/// The pid in a name of ours; none of another name.
fn owner(name: &str) -> Option<u32> {
    let rest = name.strip_prefix(PREFIX)?;
    let (pid, what) = rest.split_at(rest.find(|letter: char| !letter.is_ascii_digit())?);
    what.starts_with(['b', 'p', 'n']).then(|| pid.parse().ok())?
}

fn bridge() -> String {
    format!("{PREFIX}{}b", std::process::id())
}

/// Our end of a host's link.
fn port(host: usize) -> String {
    format!("{PREFIX}{}p{host}", std::process::id())
}

fn space(host: usize) -> String {
    format!("{PREFIX}{}n{host}", std::process::id())
}

/// A private network that nobody uses here: by our pid, so that tests that begin at once do not choose the same.
fn free_net() -> [u8; 3] {
    let used = run("ip", &["-4", "-oneline", "address", "show"], TOOL).expect_success("ip address show")
        + &run("ip", &["-4", "route", "show"], TOOL).expect_success("ip route show");
    let nets = (std::process::id()..).map(|number| {
        let [.., high, low] = number.to_be_bytes();
        [10, 0x80 | high, low]
    });
    let mut free = nets.take(256).filter(|[a, b, c]| !used.contains(&format!(" {a}.{b}.{c}.")));
    free.next().expect("256 private networks in a row are used on this machine")
}

fn machine_address([a, b, c]: [u8; 3]) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, 1)
}

fn services_address([a, b, c]: [u8; 3]) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, u8::try_from(SERVICES).expect("a byte"))
}

fn address([a, b, c]: [u8; 3], host: usize) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, 2 + u8::try_from(host).expect("at most 200 hosts"))
}

/// The hardware address of the bridge, which is 0, or of host `at - 1`.
fn hardware([a, b, c]: [u8; 3], at: usize) -> String {
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{at:02x}")
}

/// The same one as a neighbour that is known for ever.
fn neighbour(net: [u8; 3], at: usize) -> String {
    let (address, at) = match at {
        0 => (machine_address(net), 0),
        SERVICES => (services_address(net), 0),
        _ => (address(net, at - 1), at),
    };
    format!("{address} lladdr {} nud permanent", hardware(net, at))
}

#[track_caller]
fn make_host(net: [u8; 3], host: usize) {
    let (space, port, hardware) = (space(host), port(host), hardware(net, host + 1));
    tool("ip", &format!("netns add {space}"));
    tool("ip", &format!("link add {port} type veth peer name eth0 address {hardware} netns {space}"));
    tool("ip", &format!("link set dev {port} master {} up", bridge()));
    tool("ip", &format!("-n {space} address add {}/24 dev eth0", address(net, host)));
    tool("ip", &format!("-n {space} link set dev eth0 up"));
    tool("ip", &format!("-n {space} link set dev lo up"));
}

fn open_space(host: usize) -> File {
    File::open(format!("{SPACES}/{}", space(host))).expect("open the network namespace of a host")
}

/// A socket on a host. A thread goes there and ends; the socket stays.
fn socket_in(host: usize, address: Ipv4Addr) -> UdpSocket {
    let bind = || {
        move_into_link_name_space(open_space(host).as_fd(), Some(LinkNameSpaceType::Network))
            .expect("enter the network namespace of a host");
        UdpSocket::bind((address, 0)).expect("bind a socket to the address of a host")
    };
    std::thread::scope(|scope| scope.spawn(bind).join().expect("a thread that binds a socket"))
}

/// A program of the kernel's packet filter (classic BPF: code, jump if so, jump if not, number) that drops packets to an address,
/// of a hundred [`LOST_PERCENT`]. Kernels without `netem` have it.
fn losing(to: Ipv4Addr) -> String {
    // Where the target stands behind an Ethernet header; where the filter finds a random number; what it answers.
    let (target, random, (pass, drop)) = (30, 0xffff_f038_u32, (u32::MAX, 2));
    let kept = (u64::from(u32::MAX) + 1) * (100 - LOST_PERCENT) / 100;
    let is_to = format!("32 0 0 {target},21 0 3 {}", u32::from(to));
    format!("6,{is_to},32 0 0 {random},53 0 1 {kept},6 0 0 {drop},6 0 0 {pass}")
}

/// Does a packet get through?
fn arrives(from: &UdpSocket, to: &UdpSocket) -> bool {
    (0..LOST).any(|_| sent_alone(from, to))
}

/// One packet, which gets through or not; what came late of others is not taken for it.
fn sent_alone(from: &UdpSocket, to: &UdpSocket) -> bool {
    let mut packet = [0; 16];
    to.set_nonblocking(true).expect("set up a socket");
    while to.recv(&mut packet).is_ok() {}
    to.set_nonblocking(false).expect("set up a socket");
    to.set_read_timeout(Some(PACKET)).expect("set up a socket");
    let target = to.local_addr().expect("the address of a socket");
    // A link without a carrier may refuse: that is lost, too.
    from.send_to(b"does it arrive?", target).is_ok() && to.recv(&mut packet).is_ok()
}

#[track_caller]
fn tool(program: &str, words: &str) {
    tool_of(program, &words.split(' ').collect::<Vec<_>>());
}

#[track_caller]
fn tool_of(program: &str, words: &[&str]) {
    let outcome = run(program, words, TOOL);
    assert!(
        outcome.status.success(),
        "{program} {words:?}: {}{}(making networks and cutting them needs root with the rights to administer networks and mounts)",
        outcome.output,
        outcome.errors
    );
}
