use proptest::prelude::*;

use super::*;

fn policy(forbid: &[&str], allow: &[&str]) -> AddressPolicy {
    let own = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
    AddressPolicy::new(&own(forbid), &own(allow)).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn link_local_and_metadata_addresses_are_forbidden_by_default_and_neighbours_are_not() {
    let policy = AddressPolicy::default();
    let forbidden = [
        "169.254.169.254",
        "169.254.0.0",
        "169.254.255.255",
        "169.254.170.2",
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "239.255.255.255",
        "255.255.255.255",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "::",
        "fe80::1",
        "febf:ffff::1",
        "ff02::1",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fd00:c1::a9fe:a9fe",
    ];
    for address in forbidden {
        assert!(policy.forbids(ip(address)), "{address}");
    }
    let allowed = [
        "127.0.0.1",
        "::1",
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "fd00::1",
        "169.253.255.255",
        "169.255.0.0",
        "100.100.100.201",
        "1.1.1.1",
        "2606:4700::1111",
        "fec0::1",
        "223.255.255.255",
        "255.255.255.254",
        "1.0.0.0",
    ];
    for address in allowed {
        assert!(!policy.forbids(ip(address)), "{address}");
    }
}

#[test]
fn addresses_that_stand_for_forbidden_ones_are_forbidden() {
    let policy = AddressPolicy::default();
    let forms = [
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "::ffff:0:169.254.169.254",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::169.254.169.254",
        "64:ff9b:1:a9fe:a9:fe00::",
        "2002:a9fe:a9fe::1",
        "2001:0:a9fe:a9fe::",
        "2001:0:808:808::5601:5601",
        "2001:db8::5efe:169.254.169.254",
        "fd12::200:5efe:169.254.169.254",
    ];
    for address in forms {
        assert!(policy.forbids(ip(address)), "{address}");
    }
    for address in ["::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1", "2001:0:808:808::1", "::1"] {
        assert!(!policy.forbids(ip(address)), "{address}");
    }
}

#[test]
fn an_operator_forbids_more_and_allows_some_of_it_again() {
    let strict = policy(&["loopback", "private", "203.0.113.0/24"], &["10.1.0.0/16"]);
    for address in [
        "127.1.2.3",
        "::1",
        "10.2.0.1",
        "100.64.0.1",
        "fd00::1",
        "203.0.113.9",
        "::ffff:127.0.0.1",
        "64:ff9b::10.2.0.1",
    ] {
        assert!(strict.forbids(ip(address)), "{address}");
    }
    for address in ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "203.0.114.9"] {
        assert!(!strict.forbids(ip(address)), "{address}");
    }
    assert!(!policy(&[], &["169.254.0.0/16"]).forbids(ip("169.254.1.1")));
    let wrong = AddressPolicy::new(&["localnet".to_owned()], &[]).unwrap_err();
    assert!(wrong.to_string().contains("localnet"), "{wrong}");
    assert!(AddressPolicy::new(&[], &["private".to_owned()]).is_err());
}

#[test]
fn odd_spellings_of_a_forbidden_address_are_seen_through() {
    let policy = AddressPolicy::default();
    let odd = [
        "http://169.254.169.254/",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://0251.0376.0251.0376/",
        "http://169.254.43518/",
        "http://169.254.169.254./",
        "http://%31%36%39.254.169.254/",
        "http://１６９.254.169.254/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://[::ffff:169.254.169.254]/",
        "https://[fe80::1]:8443/x",
        "http://0/",
        "http://Metadata.Google.Internal/computeMetadata",
        "http://metadata.google.internal./",
        "http:metadata.goog",
        "http:\\\\169.254.169.254\\latest",
        "ht\ntp://169.254.\t169.254/",
    ];
    for url in odd {
        let error = policy.check_url(url).unwrap_err();
        assert!(matches!(error, AddressError::Forbidden(_)), "{url}: {error}");
    }
    for url in ["http://localhost:1/x", "https://a.localhost/", "http://127.1/", "http://[::1]/"] {
        assert!(policy.check_url(url).is_ok(), "{url}");
        let strict = self::policy(&["loopback"], &[]).check_url(url).unwrap_err();
        assert!(matches!(strict, AddressError::Forbidden(_)), "{url}: {strict}");
    }
    assert!(self::policy(&[], &["169.254.169.254"]).check_url("http://metadata.google.internal/").is_ok());
}

#[test]
fn urls_that_cannot_be_posted_to_are_invalid() {
    let long = format!("http://host/{}", "x".repeat(2_048));
    let wrong = [
        "",
        "host/path",
        "ftp://host/",
        "file:///etc/passwd",
        "unix:/run/x",
        "http://",
        "http:///",
        "https://u@host/",
        "https://:p@host/",
        "http://host:0/",
        "http://host:99999/",
        "javascript:x",
        long.as_str(),
    ];
    for url in wrong {
        let error = AddressPolicy::default().check_url(url);
        // A special scheme eats any number of slashes.
        assert!(matches!(error, Err(AddressError::Invalid(_))), "{url}: {error:?}");
    }
    let url = AddressPolicy::default().check_url("https://Example.com:8443/hook?a=b").unwrap();
    assert_eq!(url.as_str(), "https://example.com:8443/hook?a=b");
}

proptest! {
    #[test]
    fn whatever_the_form_an_address_is_judged_by_what_it_stands_for(v4: u32, near in any::<bool>()) {
        let v4 = Ipv4Addr::from(if near { 0xa9fe_0000 | v4 & 0x1_ffff } else { v4 });
        let policy = AddressPolicy::default();
        let expected = policy.forbids(v4.into());
        let [a, b, c, d] = v4.octets();
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let forms = [
            Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        ];
        for form in forms {
            prop_assert_eq!(policy.forbids(form.into()), expected, "{}", form);
        }
        let spelled = policy.check_url(&format!("http://{}/", u32::from(v4)));
        prop_assert_eq!(spelled.is_err(), expected);
    }

    #[test]
    fn no_text_makes_the_check_panic(text in "\\PC{0,60}") {
        let _ = AddressPolicy::default().check_url(&text);
        let _ = AddressPolicy::default().check_url(&format!("http://{text}"));
    }
}
