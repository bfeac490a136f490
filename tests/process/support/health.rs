//! HTTP servers with `/health`, that can be killed and revived.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub(crate) struct HealthServer {
    pub(crate) address: SocketAddr,
    /// How often `/health` was asked.
    pub(crate) asked: Arc<AtomicU32>,
    running: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl HealthServer {
    /// Starts on any free port of the address.
    pub(crate) fn start(address: impl Into<IpAddr>) -> Self {
        Self::start_on(SocketAddr::new(address.into(), 0))
    }

    pub(crate) fn start_on(address: SocketAddr) -> Self {
        let mut server = Self { address, asked: Arc::default(), running: None };
        server.revive();
        server
    }

    /// Closes its port: connections are refused from now on, as when its process has died.
    pub(crate) fn kill(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            stop.store(true, Ordering::SeqCst);
            thread.join().expect("the health server's thread ends");
        }
    }

    /// Comes back on the same port.
    pub(crate) fn revive(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap_or_else(|error| panic!("{}: {error}", self.address));
        self.address = listener.local_addr().expect("a bound socket has an address");
        listener.set_nonblocking(true).expect("a listener can be made non-blocking");
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::clone(&self.asked));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((stream, _)) => answer(stream, &asked),
                    Err(_) => thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        self.running = Some((stop, thread));
    }
}

impl Drop for HealthServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn answer(mut stream: std::net::TcpStream, asked: &AtomicU32) {
    drop(stream.set_nonblocking(false));
    drop(stream.set_read_timeout(Some(Duration::from_secs(1))));
    let mut request = Vec::new();
    let mut room = [0; 2048];
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut room) {
            Ok(length @ 1..) => request.extend(&room[..length]),
            _ => return,
        }
    }
    let health = request.starts_with(b"GET /health ");
    asked.fetch_add(u32::from(health), Ordering::SeqCst);
    let status = if health { "200 OK" } else { "404 Not Found" };
    drop(write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"));
}
