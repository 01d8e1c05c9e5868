//! Signatures of what is posted, after the Standard Webhooks specification 1.0.0: HMAC-SHA256 over identity, time and body.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Header with the identity of what is posted; the same however often it is tried.
pub const ID_HEADER: &str = "webhook-id";
/// Header with the time of the attempt, in seconds since the Unix epoch.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// Header with the signatures, separated by spaces.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// What a secret begins with, so that it is known for one wherever it turns up.
const SECRET_PREFIX: &str = "whsec_";

/// What a symmetric signature begins with.
const VERSION_PREFIX: &str = "v1,";

/// Bytes of a secret, as the specification limits them.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// How far the time of an attempt may be from the receiver's clock, in seconds.
const TOLERANCE_SECONDS: i64 = 5 * 60;

/// An identity as it is sent and signed: every byte but letters, digits, `_` and `-` becomes `=` and two hexadecimal digits. Two
/// different ones stay different, and none has a dot.
pub fn escape_id(id: &str) -> String {
    let mut out = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("={byte:02x}"));
        }
    }
    out
}

/// A secret that an endpoint shares with its subscription. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(Vec<u8>);

/// Why a text is no secret; it does not repeat the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret is not `whsec_` and 24 to 64 bytes in base64")]
pub struct SecretError;

impl FromStr for SigningSecret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(SECRET_PREFIX).ok_or(SecretError)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| SecretError)?;
        if SECRET_BYTES.contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(SecretError) }
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(***)")
    }
}

impl SigningSecret {
    /// A secret of 32 random bytes.
    pub fn from_random(random: [u128; 2]) -> Self {
        Self(random.iter().flat_map(|number| number.to_be_bytes()).collect())
    }

    /// The text that endpoints are set up with.
    pub fn reveal(&self) -> String {
        format!("{SECRET_PREFIX}{}", STANDARD.encode(&self.0))
    }

    /// The MAC of what is posted. `id` comes from [`escape_id`], or the text that is signed is ambiguous.
    fn mac(&self, id: &str, seconds: i64, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(id.as_bytes());
        mac.update(format!(".{seconds}.").as_bytes());
        mac.update(body);
        mac
    }

    /// The value of [`SIGNATURE_HEADER`] for a post at `seconds` since the Unix epoch.
    pub fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        format!("{VERSION_PREFIX}{}", STANDARD.encode(self.mac(id, seconds, body).finalize().into_bytes()))
    }

    /// Whether one of the signatures is ours over just this, and not older or newer than five minutes: what a receiver
    /// does. `now` is in seconds since the Unix epoch.
    pub fn verify(&self, id: &str, timestamp: &str, signatures: &str, body: &[u8], now: i64) -> bool {
        let Ok(seconds) = timestamp.parse::<i64>() else { return false };
        let is_fresh =
            now.checked_sub(seconds).is_some_and(|age| age.unsigned_abs() <= TOLERANCE_SECONDS.unsigned_abs());
        let given = signatures.split(' ').filter_map(|one| STANDARD.decode(one.strip_prefix(VERSION_PREFIX)?).ok());
        // Compared in constant time.
        is_fresh && given.into_iter().any(|tag| self.mac(id, seconds, body).verify_slice(&tag).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of the specification's libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIME: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn the_example_of_the_specification_comes_out() {
        let secret: SigningSecret = SECRET.parse().unwrap();
        assert_eq!(secret.sign(ID, TIME, BODY), SIGNATURE);
        assert_eq!((secret.reveal().as_str(), format!("{secret:?}").as_str()), (SECRET, "SigningSecret(***)"));
        let verify = |id, time: &str, signatures: &str, body, now| secret.verify(id, time, signatures, body, now);
        let time = TIME.to_string();
        assert!(verify(ID, &time, SIGNATURE, BODY, TIME + 300));
        let several =
            format!("v1a,xyz v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= v2,{} {SIGNATURE}", &SIGNATURE[3..]);
        assert!(verify(ID, &time, &several, BODY, TIME - 300));
        assert!(!verify(ID, &time, SIGNATURE, BODY, TIME + 301), "too old");
        assert!(!verify(ID, &time, SIGNATURE, BODY, i64::MIN), "too new");
        assert!(!verify("msg_other", &time, SIGNATURE, BODY, TIME));
        assert!(!verify(ID, "1614265331", SIGNATURE, BODY, TIME));
        assert!(!verify(ID, "then", SIGNATURE, BODY, TIME));
        assert!(!verify(ID, &time, &SIGNATURE[3..], BODY, TIME), "a signature of no version");
        assert!(!verify(ID, &time, SIGNATURE, b"{}", TIME));
    }

    #[test]
    fn secrets_have_a_prefix_and_24_to_64_bytes() {
        let of = |len: usize| format!("whsec_{}", STANDARD.encode(vec![7; len])).parse::<SigningSecret>();
        assert!(of(24).is_ok() && of(64).is_ok() && of(23).is_err() && of(65).is_err());
        for wrong in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_*fKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            assert_eq!(wrong.parse::<SigningSecret>(), Err(SecretError));
        }
    }

    #[test]
    fn identities_have_no_dots_and_stay_different() {
        assert_eq!(escape_id("msg_1_2-A"), "msg_1_2-A");
        assert_eq!(escape_id("a.b=2e\n\u{e9}"), "a=2eb=3d2e=0a=c3=a9");
    }

    proptest! {
        #[test]
        fn what_is_signed_verifies_and_nothing_else_does(
            random: [u128; 2], other: [u128; 2], id in "[a-z0-9_]{1,20}", time in 0..=4_000_000_000_i64, body: Vec<u8>,
        ) {
            let secret: SigningSecret = SigningSecret::from_random(random).reveal().parse().unwrap();
            let signature = secret.sign(&id, time, &body);
            prop_assert!(secret.verify(&id, &time.to_string(), &signature, &body, time));
            prop_assert_eq!(SigningSecret::from_random(other).verify(&id, &time.to_string(), &signature, &body, time), other == random);
            let mut longer = body;
            longer.push(b' ');
            prop_assert!(!secret.verify(&id, &time.to_string(), &signature, &longer, time));
        }
    }
}
