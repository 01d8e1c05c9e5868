//! Blocks of IP addresses.

use std::{fmt, net::IpAddr, str::FromStr};

/// All addresses that share a prefix: `10.0.0.0/8`, `fe80::/10`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no block of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no block of addresses: write it as 10.0.0.0/8, fd00::/8 or 192.0.2.1")]
pub struct CidrError {
    text: String,
}

/// The bits of an address, left-aligned, and how many there are.
fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    }
}

impl Cidr {
    /// Whether the address is in the block. An IPv4 address is in no IPv6 block, and the other way round.
    pub fn contains(&self, address: IpAddr) -> bool {
        let ((ours, width), (theirs, their_width)) = (bits(self.address), bits(address));
        // A shift by 128 bits is one too far for the type: the empty prefix fits everything.
        width == their_width && (ours ^ theirs).checked_shr(128 - u32::from(self.prefix)).unwrap_or(0) == 0
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    /// Bits behind the prefix must be zero, since whoever wrote them meant something else.
    fn from_str(text: &str) -> Result<Self, CidrError> {
        let wrong = || CidrError { text: text.chars().take(64).collect() };
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let (bits, width) = bits(address);
        let prefix = match prefix {
            None => width,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().map_err(|_| wrong())?,
            Some(_) => return Err(wrong()),
        };
        let behind = bits.checked_shl(u32::from(prefix)).unwrap_or(0);
        if prefix > width || behind != 0 { Err(wrong()) } else { Ok(Self { address, prefix }) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_block_holds_what_agrees_with_it_in_every_bit_of_the_prefix(
            address: u32, other: u32, prefix in 0..=32_u8, near in 0..=32_u32,
        ) {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            let base = Ipv4Addr::from(address & mask);
            let block: Cidr = format!("{base}/{prefix}").parse().unwrap();
            prop_assert_eq!(block.to_string().parse::<Cidr>().unwrap(), block);
            // Near the block as well as anywhere.
            for other in [other, address ^ 1_u32.checked_shl(near).unwrap_or(0)] {
                prop_assert_eq!(block.contains(IpAddr::V4(other.into())), other & mask == address & mask);
                prop_assert!(!block.contains(IpAddr::V6(Ipv4Addr::from(other).to_ipv6_mapped())));
            }
        }

        #[test]
        fn long_blocks_too(address: u128, other: u128, prefix in 0..=128_u8, near in 0..=128_u32) {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            let block: Cidr = format!("{}/{prefix}", Ipv6Addr::from(address & mask)).parse().unwrap();
            for other in [other, address ^ 1_u128.checked_shl(near).unwrap_or(0)] {
                prop_assert_eq!(block.contains(IpAddr::V6(other.into())), other & mask == address & mask);
            }
        }
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for wrong in
            ["", "10.0.0.0/33", "10.0.0.1/8", "::/129", "10/8", "10.0.0.0/", "10.0.0.0/+8", "fe80::1/64", "x/8"]
        {
            assert!(wrong.parse::<Cidr>().unwrap_err().to_string().contains(wrong), "{wrong}");
        }
        assert_eq!("192.0.2.1".parse::<Cidr>().unwrap().to_string(), "192.0.2.1/32");
    }
}
