//! DNS over UDP: one thread a socket, a batch at a time.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;

use super::Responder;
use super::batch::Batch;
use crate::resolve::answer::{Client, Transport};

/// Answers what comes on `socket`, for as long as the process lives. What must wait for somebody else is carried on by
/// `runtime` and leaves by the same socket.
pub(super) fn serve(socket: UdpSocket, responder: Arc<Responder>, runtime: Handle) -> io::Result<()> {
    let socket = Arc::new(socket);
    thread::Builder::new().name("dns-udp".into()).spawn(move || {
        let mut batch = Batch::new();
        let mut worker = responder.worker();
        loop {
            let slots = match batch.receive(&socket) {
                Ok(slots) => slots,
                // An ICMP error of an earlier answer, or a signal: nothing was received.
                Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::Interrupted) => continue,
                Err(error) => {
                    tracing::error!("cannot receive on {:?}: {error}", socket.local_addr());
                    thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            let count = slots.len();
            worker.refresh();
            for slot in slots {
                let client = Client { address: slot.peer().ip(), transport: Transport::Udp };
                let mut output = std::mem::take(&mut slot.output);
                let pending = responder.answer(&mut worker, slot.input(), client, &mut output);
                slot.output = output;
                if let Some(pending) = pending {
                    let (responder, socket, origin) = (responder.clone(), socket.clone(), slot.origin());
                    runtime.spawn(async move {
                        let answer = responder.finish(pending).await;
                        if !answer.is_empty() {
                            // A client that has gone is nobody's fault.
                            let _ = origin.send(&socket, &answer);
                        }
                    });
                }
            }
            batch.send(&socket, count);
        }
    })?;
    Ok(())
}
