//! Settings that are text, read into what they mean.

use std::net::SocketAddr;

use secrecy::{ExposeSecret as _, SecretString};
use url::{Host, Url};

use crate::domain::{CARRIER_ID_RULE, is_carrier_id};

pub(super) fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "must be an IP address and a port, for example 0.0.0.0:8080")
}

pub(super) fn http_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with https:// or http://".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not carry credentials".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not have a query or a fragment".into());
    }
    Ok(url)
}

/// A URL that secrets or signatures depend on: not in the clear over a network.
pub(super) fn base_url(text: &str) -> Result<Url, String> {
    let url = http_url(text)?;
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err("must begin with https:// because its host is not this machine".into());
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

pub(super) fn token_like(token: &SecretString) -> Result<SecretString, &'static str> {
    let text = token.expose_secret();
    let fits =
        !text.is_empty() && text.len() <= 200 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        Ok(token.clone())
    } else {
        Err("must be 1 to 200 printable characters without spaces")
    }
}

pub(super) fn api_key_sid(text: &str) -> Result<String, &'static str> {
    if is_carrier_id(text) { Ok(text.to_owned()) } else { Err(CARRIER_ID_RULE) }
}

/// `HH:MM` as a minute of the day, 0 to 1440.
pub(super) fn minute(text: &str) -> Result<u16, &'static str> {
    const WRONG: &str = "must be a time of day, HH:MM, 00:00 to 24:00";
    let (hour, minute) = text.split_once(':').ok_or(WRONG)?;
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { text.parse::<u16>().map_err(|_| WRONG) } else { Err(WRONG) }
    };
    match (number(hour)?, number(minute)?) {
        (24, 0) => Ok(1_440),
        (hour @ 0..=23, minute @ 0..=59) => Ok(hour * 60 + minute),
        _ => Err(WRONG),
    }
}
