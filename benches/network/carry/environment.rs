//! An environment without a name: a thread in a network namespace of its own, with a device.
#![allow(unsafe_code)]

use crate::device;
use anyhow::{Context as _, Result, ensure};
use netdev::tun::Life;
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// A question for the address of `a.b`.
const QUESTION: [u8; 21] = *b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01a\x01b\0\0\x01\0\x01";

/// One environment; its thread ends with it, its namespace with its device.
pub struct Environment {
    pub index: u32,
    device: Option<OwnedFd>,
    ask: Sender<()>,
    asked: Receiver<bool>,
}

impl Environment {
    pub fn new(index: u32) -> Result<Self> {
        let (made, device) = channel();
        let (ask, asks) = channel();
        let (answered, asked) = channel();
        thread::Builder::new().stack_size(64 << 10).spawn(move || {
            // SAFETY: a new network namespace leaves memory and descriptors alone; no other thread shares it.
            let unshared = unsafe { unshare_unsafe(UnshareFlags::NEWNET) };
            let _ = made.send(
                unshared.map_err(Into::into).and_then(|()| device::environment(index, Life::Namespace)),
            );
            let Ok(socket) = UdpSocket::bind("0.0.0.0:0") else { return };
            while asks.recv().is_ok() {
                let _ = answered.send(ask_by(&socket).is_ok());
            }
        })?;
        let device = device.recv().context("no environment can be made")??;
        Ok(Self { index, device: Some(device), ask, asked })
    }

    /// The device, once.
    pub fn take(&mut self) -> Option<OwnedFd> {
        self.device.take()
    }

    /// Asks the resolver from inside and awaits the answer.
    pub fn ask(&self) -> Result<()> {
        self.ask.send(())?;
        ensure!(self.asked.recv()?, "the resolver did not answer environment {}", self.index);
        Ok(())
    }
}

fn ask_by(socket: &UdpSocket) -> std::io::Result<usize> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send_to(&QUESTION, "169.254.169.253:53")?;
    socket.recv(&mut [0; 512])
}
