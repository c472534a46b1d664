//! Many datagrams per system call: recvmmsg(2) and sendmmsg(2).
//!
//! Each datagram comes with the local address that it was sent to, and an answer leaves from there: on a
//! host with several addresses the kernel would choose another one, and a client that has connected its
//! socket would drop the answer.
#![expect(unsafe_code, reason = "no safe wrapper sends control messages that differ per datagram")]

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

/// Datagrams per system call.
pub const BATCH: usize = 64;

/// Longer datagrams are cut.
pub const MAX_LEN: usize = 2048;

/// Room for a control message with an address, aligned as the kernel wants it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 64]);

/// A datagram that came in.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// Its content.
    pub bytes: &'a [u8],
    /// Who sent it; IPv4 on an IPv6 socket as an IPv4-mapped address.
    pub from: SocketAddr,
    /// The local address it was sent to, in the same form, when the kernel told.
    pub to: Option<IpAddr>,
}

/// Asks the kernel to tell local addresses on this socket (`IP_PKTINFO`, `IPV6_RECVPKTINFO`).
///
/// # Errors
/// What setsockopt(2) said.
pub fn tell_local_addresses(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    let (level, name) = if v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    } else {
        (libc::IPPROTO_IP, libc::IP_PKTINFO)
    };
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).unwrap_or(4);
    // SAFETY: the descriptor is open for the length of the borrow, and the value is an integer that
    // lives until the call returns.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Datagrams that came in together.
pub struct Inbox {
    buffers: Box<[[u8; MAX_LEN]]>,
    names: Box<[libc::sockaddr_storage]>,
    controls: Box<[Control]>,
    /// Content and control bytes of each.
    lengths: Vec<(usize, usize)>,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("datagrams", &self.lengths.len()).finish_non_exhaustive()
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            buffers: vec![[0; MAX_LEN]; BATCH].into(),
            names: vec![no_name(); BATCH].into(),
            controls: vec![Control([0; 64]); BATCH].into(),
            lengths: Vec::with_capacity(BATCH),
        }
    }
}

impl Inbox {
    /// Receives what is there, [`BATCH`] datagrams at most, in place of what was in it; how many.
    ///
    /// # Errors
    /// What recvmmsg(2) said; `WouldBlock` when a socket that does not block has nothing.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.lengths.clear();
        // SAFETY: zero is a valid value of each field of these structures.
        let mut vectors: [libc::iovec; BATCH] = unsafe { mem::zeroed() };
        // SAFETY: likewise.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        for at in 0..BATCH {
            vectors[at].iov_base = self.buffers[at].as_mut_ptr().cast();
            vectors[at].iov_len = MAX_LEN;
            let header = &mut headers[at].msg_hdr;
            header.msg_name = (&raw mut self.names[at]).cast();
            header.msg_namelen = name_len::<libc::sockaddr_storage>();
            header.msg_iov = &raw mut vectors[at];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[at].0.as_mut_ptr().cast();
            header.msg_controllen = self.controls[at].0.len() as _;
        }
        // SAFETY: each header points to buffers of the stated lengths that live, and are not used
        // otherwise, until the call returns; the descriptor is open for the length of the borrow.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                u32::try_from(BATCH).unwrap_or(1),
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        self.lengths.extend(headers.iter().take(count).map(|header| {
            let content = usize::try_from(header.msg_len).unwrap_or(0).min(MAX_LEN);
            (content, control_len(&header.msg_hdr))
        }));
        Ok(count)
    }

    /// What came in; datagrams from no internet address are left out.
    pub fn iter(&self) -> impl Iterator<Item = Received<'_>> {
        self.lengths.iter().enumerate().filter_map(|(at, (content, control))| {
            let bytes = self.buffers[at].get(..*content)?;
            let from = read_name(&self.names[at])?;
            let to = self.controls[at].0.get(..*control).and_then(read_control);
            Some(Received { bytes, from, to })
        })
    }
}

/// Datagrams to send together.
pub struct Outbox {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

struct Entry {
    end: usize,
    name: libc::sockaddr_storage,
    name_len: libc::socklen_t,
    control: Control,
    control_len: usize,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("datagrams", &self.entries.len()).finish_non_exhaustive()
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self { bytes: Vec::with_capacity(BATCH * 1024), entries: Vec::with_capacity(BATCH) }
    }
}

impl Outbox {
    /// Adds what `write` appends to its argument, if anything, as a datagram to `to` from the local address
    /// `from`; both in the form of [`Received`].
    pub fn push(&mut self, to: SocketAddr, from: Option<IpAddr>, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        if self.bytes.len() == start {
            return;
        }
        let (name, name_len) = write_name(to);
        let (control, control_len) = from.map_or((Control([0; 64]), 0), write_control);
        let end = self.bytes.len();
        self.entries.push(Entry { end, name, name_len, control, control_len });
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether [`BATCH`] datagrams wait.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.entries.len() >= BATCH
    }

    /// Sends everything and forgets it; returns how many datagrams the kernel took. One that it does not
    /// take is lost, as on the network.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> usize {
        let mut sent = 0;
        let mut start = 0;
        for part in 0..self.entries.len().div_ceil(BATCH) {
            let first = part * BATCH;
            let last = self.entries.len().min(first + BATCH);
            sent += self.send_part(socket, first..last, &mut start);
        }
        self.bytes.clear();
        self.entries.clear();
        sent
    }

    fn send_part(
        &mut self,
        socket: BorrowedFd<'_>,
        part: std::ops::Range<usize>,
        start: &mut usize,
    ) -> usize {
        // SAFETY: zero is a valid value of each field of these structures.
        let mut vectors: [libc::iovec; BATCH] = unsafe { mem::zeroed() };
        // SAFETY: likewise.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        let count = part.len();
        for (at, entry) in self.entries[part].iter_mut().enumerate() {
            let bytes = &mut self.bytes[*start..entry.end];
            *start = entry.end;
            vectors[at].iov_base = bytes.as_mut_ptr().cast();
            vectors[at].iov_len = bytes.len();
            let header = &mut headers[at].msg_hdr;
            header.msg_name = (&raw mut entry.name).cast();
            header.msg_namelen = entry.name_len;
            header.msg_iov = &raw mut vectors[at];
            header.msg_iovlen = 1;
            if entry.control_len > 0 {
                header.msg_control = entry.control.0.as_mut_ptr().cast();
                header.msg_controllen = entry.control_len as _;
            }
        }
        let (mut done, mut sent) = (0, 0);
        while done < count {
            let rest = &mut headers[done..count];
            // SAFETY: each header points to buffers of the stated lengths that live until the call
            // returns; the descriptor is open for the length of the borrow.
            let taken = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    u32::try_from(rest.len()).unwrap_or(1),
                    libc::MSG_DONTWAIT as _,
                )
            };
            match usize::try_from(taken) {
                Ok(taken) => {
                    sent += taken;
                    done += taken.max(1);
                }
                Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                // the first one cannot be sent: the others can, perhaps
                Err(_) => done += 1,
            }
        }
        sent
    }
}

fn name_len<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

fn family(number: libc::c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(number).unwrap_or(0)
}

/// The C libraries disagree on the type of this field.
#[allow(clippy::useless_conversion, reason = "glibc has usize, musl u32")]
fn control_len(header: &libc::msghdr) -> usize {
    usize::try_from(header.msg_controllen).unwrap_or(0)
}

fn no_name() -> libc::sockaddr_storage {
    // SAFETY: zero is a valid value of each field.
    unsafe { mem::zeroed() }
}

fn read_name(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says which structure it is, and sockaddr_storage has room and
            // alignment for each.
            let name = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::from((ip, u16::from_be(name.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: likewise.
            let name = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(name.sin6_port), 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

fn write_name(addr: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    let mut storage = no_name();
    let length = match addr {
        SocketAddr::V4(addr) => {
            // SAFETY: sockaddr_storage has room and alignment for each address structure.
            let name = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in>() };
            name.sin_family = family(libc::AF_INET);
            name.sin_port = addr.port().to_be();
            name.sin_addr.s_addr = u32::from_ne_bytes(addr.ip().octets());
            name_len::<libc::sockaddr_in>()
        }
        SocketAddr::V6(addr) => {
            // SAFETY: likewise.
            let name = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in6>() };
            name.sin6_family = family(libc::AF_INET6);
            name.sin6_port = addr.port().to_be();
            name.sin6_addr.s6_addr = addr.ip().octets();
            name.sin6_scope_id = addr.scope_id();
            name_len::<libc::sockaddr_in6>()
        }
    };
    (storage, length)
}

/// Where the data of a control message begins.
const DATA_AT: usize = size_of::<libc::cmsghdr>().next_multiple_of(align_of::<libc::cmsghdr>());

/// The local address in the first control message; the socket asked for no other kind.
fn read_control(control: &[u8]) -> Option<IpAddr> {
    let data = control.get(DATA_AT..)?;
    // SAFETY: there are at least as many bytes as a header has, and it consists of integers.
    let header = unsafe { control.as_ptr().cast::<libc::cmsghdr>().read_unaligned() };
    match (header.cmsg_level, header.cmsg_type) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) if data.len() >= size_of::<libc::in_pktinfo>() => {
            // SAFETY: there are enough bytes, and the structure consists of integers.
            let info = unsafe { data.as_ptr().cast::<libc::in_pktinfo>().read_unaligned() };
            Some(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into())
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)
            if data.len() >= size_of::<libc::in6_pktinfo>() =>
        {
            // SAFETY: likewise.
            let info = unsafe { data.as_ptr().cast::<libc::in6_pktinfo>().read_unaligned() };
            Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into())
        }
        _ => None,
    }
}

fn write_control(from: IpAddr) -> (Control, usize) {
    let mut control = Control([0; 64]);
    let mut data = [0; 20];
    let (level, kind, data) = match from {
        // interface 0, the address to send from, no destination
        IpAddr::V4(ip) => {
            data[4..8].copy_from_slice(&ip.octets());
            (libc::IPPROTO_IP, libc::IP_PKTINFO, &data[..12])
        }
        // the address to send from, interface 0
        IpAddr::V6(ip) => {
            data[..16].copy_from_slice(&ip.octets());
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data[..])
        }
    };
    // SAFETY: zero is a valid value of each field.
    let mut header: libc::cmsghdr = unsafe { mem::zeroed() };
    header.cmsg_len = (DATA_AT + data.len()) as _;
    header.cmsg_level = level;
    header.cmsg_type = kind;
    // SAFETY: the room is larger than a header and aligned for it.
    unsafe { control.0.as_mut_ptr().cast::<libc::cmsghdr>().write(header) };
    control.0[DATA_AT..][..data.len()].copy_from_slice(data);
    (control, (DATA_AT + data.len()).next_multiple_of(align_of::<libc::cmsghdr>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd as _;
    use std::time::Duration;

    fn server(listen: &str) -> UdpSocket {
        let socket = UdpSocket::bind(listen).unwrap();
        tell_local_addresses(socket.as_fd(), listen.starts_with('[')).unwrap();
        socket
    }

    fn client(server: &str, port: u16) -> UdpSocket {
        let any = if server.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect(format!("{server}:{port}")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
    }

    fn wait(inbox: &mut Inbox, socket: &UdpSocket) {
        for _ in 0..2000 {
            match inbox.receive(socket.as_fd()) {
                Ok(_) => return,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(e) => panic!("{e}"),
            }
        }
        panic!("nothing came");
    }

    /// A connected client takes answers from the address that it asked only.
    #[test]
    fn answers_leave_from_where_the_question_went() {
        for (listen, asked) in [
            ("0.0.0.0:0", "127.0.0.1"),
            ("0.0.0.0:0", "127.0.0.77"),
            ("[::]:0", "127.0.0.78"),
            ("[::]:0", "[::1]"),
            ("127.0.0.1:0", "127.0.0.1"),
        ] {
            let server = server(listen);
            let client = client(asked, server.local_addr().unwrap().port());
            let (mut inbox, mut outbox) = (Inbox::default(), Outbox::default());
            client.send(b"question").unwrap();
            wait(&mut inbox, &server);
            for received in inbox.iter() {
                assert_eq!(received.bytes, b"question");
                let to = received.to.unwrap().to_canonical();
                assert_eq!(to, asked.trim_matches(['[', ']']).parse::<IpAddr>().unwrap());
                outbox.push(received.from, received.to, |_| {});
                outbox.push(received.from, received.to, |out| out.extend(b"answer"));
            }
            assert_eq!(outbox.send(server.as_fd()), 1, "{listen} {asked}");
            let mut answer = [0; 100];
            assert_eq!(client.recv(&mut answer).unwrap(), 6);
        }
    }

    #[test]
    fn many_at_once_and_what_cannot_be_sent_hinders_no_other() {
        let server = server("127.0.0.1:0");
        let client = client("127.0.0.1", server.local_addr().unwrap().port());
        for number in 0..100u8 {
            client.send(&[number; 10]).unwrap();
        }
        let (mut inbox, mut outbox) = (Inbox::default(), Outbox::default());
        let mut seen = Vec::new();
        while seen.len() < 100 {
            wait(&mut inbox, &server);
            assert!(inbox.iter().count() <= BATCH);
            for received in inbox.iter() {
                seen.push(received.bytes[0]);
                outbox.push(received.from, received.to, |out| out.extend(received.bytes));
                // an IPv6 address on an IPv4 socket
                outbox.push("[::1]:9".parse().unwrap(), None, |out| out.push(1));
            }
        }
        assert_eq!(seen, (0..100).collect::<Vec<u8>>());
        assert!(outbox.is_full());
        assert_eq!(outbox.send(server.as_fd()), 100);
        assert!(outbox.is_empty());
        let mut answer = [0; 100];
        for number in 0..100u8 {
            assert_eq!(client.recv(&mut answer).unwrap(), 10);
            assert_eq!(answer[0], number);
        }
    }
}
