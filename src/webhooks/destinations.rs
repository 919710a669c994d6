//! Which targets a tenant may have webhooks sent to: the public internet, and what the operator
//! names. Anything else would let a tenant reach what only this server can (server-side request
//! forgery).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

use crate::domain::Violation;

/// The most exceptions.
const ALLOWED_MAX: usize = 100;

/// IPv4 that is not the public internet.
/// <https://www.iana.org/assignments/iana-ipv4-special-registry>
const CLOSED_V4: [(Ipv4Addr, u8); 17] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8), // this network; 0.0.0.0 reaches this machine
    (Ipv4Addr::new(10, 0, 0, 0), 8), // private
    (Ipv4Addr::new(100, 64, 0, 0), 10), // carrier-grade NAT; Alibaba's metadata
    (Ipv4Addr::new(127, 0, 0, 0), 8), // loopback
    (Ipv4Addr::new(168, 63, 129, 16), 32), // Azure's own services: metadata, DNS
    (Ipv4Addr::new(169, 254, 0, 0), 16), // link-local; metadata of most clouds
    (Ipv4Addr::new(172, 16, 0, 0), 12), // private
    (Ipv4Addr::new(192, 0, 0, 0), 24), // protocol assignments; Oracle's metadata
    (Ipv4Addr::new(192, 0, 2, 0), 24), // documentation
    (Ipv4Addr::new(192, 31, 196, 0), 24), // AS112
    (Ipv4Addr::new(192, 88, 99, 0), 24), // 6to4 relays
    (Ipv4Addr::new(192, 168, 0, 0), 16), // private
    (Ipv4Addr::new(198, 18, 0, 0), 15), // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24), // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4), // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4), // reserved; broadcast
];
/// The one part of IPv6 that is the public internet. All that is mapped, translated (NAT64), unique
/// local, link-local, site-local, multicast, loopback or unspecified lies outside.
const OPEN_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// What of it is not. <https://www.iana.org/assignments/iana-ipv6-special-registry>
const CLOSED_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments; Teredo holds IPv4
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4 holds IPv4
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

/// Why a target is refused. Names no address: what a name leads to inside is nobody's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is no URL with a host.
    #[error("is not a URL with a host")]
    NotAUrl,
    /// It is not https.
    #[error("must begin with https://")]
    NotHttps,
    /// It carries a user or a password.
    #[error("must not carry credentials")]
    Credentials,
    /// Its host leads somewhere that is not public.
    #[error("its host is not on the public internet")]
    NotPublic,
}

/// One exception.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Allowed {
    /// Addresses.
    Net(IpNet),
    /// A name, wherever it leads.
    Host(String),
}

/// Who may be called. By default the public internet, over https.
#[derive(Debug, Clone, Default)]
pub struct Destinations {
    allowed: Vec<Allowed>,
}

impl Destinations {
    /// A destinations with the exceptions of `text`: addresses, networks in CIDR notation and host
    /// names, separated by commas. What is named may be called over plain http as well.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Violation> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let allowed = items.map(parse_one).collect::<Result<Vec<_>, _>>()?;
        if allowed.len() > ALLOWED_MAX {
            return Err(Violation::new("hooks.allow", "holds more than 100 exceptions"));
        }
        Ok(Self { allowed })
    }

    /// Whether `url` may be called, as far as the URL itself says.
    ///
    /// # Errors
    /// Why not.
    pub fn check_url(&self, url: &Url) -> Result<(), Refused> {
        let host = url.host().ok_or(Refused::NotAUrl)?;
        let named = match host {
            Host::Domain(name) => self.allows_host(name),
            Host::Ipv4(ip) => self.allows_address(ip.into()),
            Host::Ipv6(ip) => self.allows_address(ip.into()),
        };
        if url.scheme() != "https" && !(url.scheme() == "http" && named) {
            return Err(Refused::NotHttps);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::Credentials);
        }
        let public = match host {
            Host::Domain(_) => true,
            Host::Ipv4(ip) => is_public(ip.into()),
            Host::Ipv6(ip) => is_public(ip.into()),
        };
        if public || named { Ok(()) } else { Err(Refused::NotPublic) }
    }

    /// Whether all that `name` leads to may be called. One that leads to the inside as well as the
    /// outside is refused.
    ///
    /// # Errors
    /// [`Refused::NotPublic`].
    pub fn check_addresses(
        &self,
        name: &str,
        addresses: impl Iterator<Item = IpAddr>,
    ) -> Result<(), Refused> {
        if self.allows_host(name) {
            return Ok(());
        }
        let mut addresses = addresses;
        let fits = addresses.all(|ip| is_public(ip) || self.allows_address(ip));
        if fits { Ok(()) } else { Err(Refused::NotPublic) }
    }

    fn allows_host(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.');
        self.allowed.iter().any(|allowed| match allowed {
            Allowed::Host(host) => host.eq_ignore_ascii_case(name),
            Allowed::Net(_) => false,
        })
    }

    fn allows_address(&self, ip: IpAddr) -> bool {
        self.allowed.iter().any(|allowed| match allowed {
            Allowed::Net(net) => net.contains(&ip),
            Allowed::Host(_) => false,
        })
    }
}

fn parse_one(item: &str) -> Result<Allowed, Violation> {
    if let Ok(net) = item.parse::<IpNet>() {
        return Ok(Allowed::Net(net));
    }
    if let Ok(ip) = item.parse::<IpAddr>() {
        return Ok(Allowed::Net(ip.into()));
    }
    match Host::parse(item) {
        Ok(Host::Domain(name)) if !item.contains('/') => Ok(Allowed::Host(name)),
        Ok(_) | Err(_) => Err(Violation::new(
            "hooks.allow",
            "must be networks such as 10.0.0.0/8 and host names, separated by commas",
        )),
    }
}

/// Whether everybody could reach the address.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !CLOSED_V4.iter().any(|(net, bits)| holds_v4(*net, *bits, ip)),
        IpAddr::V6(ip) => {
            holds_v6(OPEN_V6, ip) && !CLOSED_V6.iter().any(|closed| holds_v6(*closed, ip))
        }
    }
}

fn holds_v4(net: Ipv4Addr, bits: u8, ip: Ipv4Addr) -> bool {
    Ipv4Net::new(net, bits).is_ok_and(|net| net.contains(&ip))
}

fn holds_v6((net, bits): (Ipv6Addr, u8), ip: Ipv6Addr) -> bool {
    Ipv6Net::new(net, bits).is_ok_and(|net| net.contains(&ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(destinations: &Destinations, url: &str) -> Result<(), Refused> {
        destinations.check_url(&Url::parse(url).unwrap())
    }

    const INSIDE: [&str; 34] = [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001:0:1::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ];
    const OUTSIDE: [&str; 8] = [
        "1.1.1.1",
        "8.8.8.8",
        "100.63.255.255",
        "172.15.255.255",
        "172.32.0.1",
        "192.167.255.255",
        "2606:4700::1111",
        "2a00:1450:4001::5e",
    ];

    #[test]
    fn the_inside_is_closed_and_the_outside_open() {
        let destinations = Destinations::default();
        for (addresses, open) in [(&INSIDE[..], true), (&OUTSIDE[..], false)] {
            for text in addresses {
                let ip: IpAddr = text.parse().unwrap();
                let literal = if ip.is_ipv6() {
                    format!("https://[{text}]/")
                } else {
                    format!("https://{text}/")
                };
                assert_eq!(check(&destinations, &literal).is_err(), open, "{literal}");
                let public: IpAddr = "8.8.8.8".parse().unwrap();
                let found = destinations.check_addresses("a.example", [public, ip].into_iter());
                assert_eq!(found.is_err(), open, "{text}");
            }
        }
    }

    /// Spellings of 127.0.0.1 and others that a URL may hold.
    #[test]
    fn other_spellings_and_schemes_are_seen_through() {
        let destinations = Destinations::default();
        for url in [
            "https://2130706433/",
            "https://0x7f000001/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://0/",
            "https://[::ffff:7f00:1]/",
            "https://１２７.0.0.1/",
            "https://169.254.169.254/latest/meta-data/",
        ] {
            assert_eq!(check(&destinations, url), Err(Refused::NotPublic), "{url}");
        }
        assert_eq!(check(&destinations, "http://example.com/"), Err(Refused::NotHttps));
        assert_eq!(check(&destinations, "http://8.8.8.8/"), Err(Refused::NotHttps));
        for url in
            ["file:///etc/passwd", "gopher://8.8.8.8/", "data:text/plain,x", "ftp://example.com/"]
        {
            assert!(check(&destinations, url).is_err(), "{url}");
        }
        assert_eq!(
            check(&destinations, "https://user:pass@example.com/"),
            Err(Refused::Credentials)
        );
        assert_eq!(check(&destinations, "https://example.com:8443/hook?x=1"), Ok(()));
    }

    #[test]
    fn the_operator_names_exceptions() {
        let destinations =
            Destinations::parse("10.1.0.0/16, 127.0.0.1,fd00::/8, Hooks.Internal").unwrap();
        for url in [
            "http://127.0.0.1:8080/",
            "https://10.1.2.3/",
            "https://[fd00::1]/",
            "http://hooks.internal/",
        ] {
            assert_eq!(check(&destinations, url), Ok(()), "{url}");
        }
        for url in
            ["https://10.2.0.1/", "http://127.0.0.2/", "http://other.internal/", "http://8.8.8.8/"]
        {
            assert!(check(&destinations, url).is_err(), "{url}");
        }
        let inside = || ["10.9.9.9".parse().unwrap()].into_iter();
        assert_eq!(destinations.check_addresses("hooks.internal.", inside()), Ok(()));
        assert_eq!(
            destinations.check_addresses("x.hooks.internal", inside()),
            Err(Refused::NotPublic)
        );
        for wrong in ["10.0.0.0/33", "a b", "http://x/", "10.0.0.0/8 x"] {
            assert!(Destinations::parse(wrong).is_err(), "{wrong}");
        }
    }
}
