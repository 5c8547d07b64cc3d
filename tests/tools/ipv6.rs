//! A cloud on IPv6, which some containers do not have.

use std::net::TcpListener;

use super::cloud::{Cloud, off, setup};
use super::site::{Policy, Site};
use super::{KEY, PASSWORD};

/// Whether the machine has an IPv6 loopback.
pub(crate) fn available() -> Result<(), String> {
    TcpListener::bind("[::1]:0").map(drop).map_err(|error| format!("there is no IPv6: {error}"))
}

pub(crate) fn a_cloud_on_ipv6_works() {
    let cloud =
        Cloud::start(setup([off()]).access_key("AKOFTHESETESTS000001", PASSWORD).address("[::1]:0".parse().unwrap()));
    assert!(cloud.url().starts_with("http://[::1]:"), "{}", cloud.url());
    let signed = "{access_key: {access_key_id: AKOFTHESETESTS000001, secret_access_key_file: password}}";
    for credentials in ["{token_file: token}", signed] {
        let applied = Site::new(&Policy::of_one_key(cloud.url()).with(credentials)).apply();
        assert_eq!(applied.key(KEY), "compliant", "{credentials}");
    }
}
