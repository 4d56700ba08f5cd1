//! `card openpgp|piv PORT FILE`: a virtual smartcard in the reader of vpcd at this port of the loopback. It keeps what it knows in FILE,
//! and is pulled out when the program ends. An OpenPGP card's serial number is the port.

mod apdu;
mod dispatch;

use apdu::{Application, VirtualCard};
use dispatch::{BACKENDS, Dispatch};
use std::net::{Ipv4Addr, SocketAddr};
use trussed::virt::{StorageConfig, StoreConfig, with_platform};
use trussed_core::types::Location;
use trussed_core::{CryptoClient, syscall};

fn main() {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let [kind, port, file] = arguments.as_slice() else { panic!("usage: card openpgp|piv PORT FILE") };
    let port: u16 = port.parse().expect("a port");
    let store = StoreConfig {
        internal: StorageConfig::filesystem(file.into()),
        external: StorageConfig::ram(),
        volatile: StorageConfig::ram(),
    };
    with_platform(store, |platform| {
        platform.run_client_with_backends("card", Dispatch::new(), BACKENDS, |mut client| {
            // The platform's random numbers are always the same: no two cards shall have the same keys.
            for _ in 0..port % 64 {
                syscall!(client.random_bytes(32));
            }
            if kind == "piv" {
                let options = piv_authenticator::Options::new().storage(Location::Internal);
                insert(port, piv_authenticator::Authenticator::new(client, options));
            } else {
                let mut options = opcard::Options::default();
                options.storage = Location::Internal;
                options.serial[2..].copy_from_slice(&port.to_be_bytes());
                insert(port, opcard::Card::new(client, options));
            }
        })
    });
}

fn insert(port: u16, card: impl Application) {
    let reader = vpicc::connect_socket(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).expect("no vpcd");
    eprintln!("card: {:?}", reader.run(&mut VirtualCard::new(card)));
}
