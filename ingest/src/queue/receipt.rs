//! Receipts: what a consumer is given with a message and gives back to settle it. Pure.
//!
//! A receipt says which delivery it is, and carries a seal (HMAC-SHA256 under the subscription's secret, cut to 16 bytes as
//! RFC 2104 allows) so that nobody can make one up, alter one, or use it on another subscription. It holds everything that
//! is needed to judge it, so that whoever leads after a takeover can: which message, which incarnation of the dispatcher
//! delivered it under which number, until when it is good, and how often the message was delivered: deliveries are not
//! committed, so that nobody else may know.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use brigade_index::ids::{Offset, Partition, SubscriptionId};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::ReceiptError;
use crate::dispatch::At;

const VERSION: u8 = 1;
const FIELDS: usize = 1 + 5 * 8 + 4;
const SEAL: usize = 16;

/// What a receipt says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) at: At,
    /// Of the dispatcher that delivered it: another one knows nothing of its number.
    pub(super) incarnation: u64,
    pub(super) number: u64,
    /// Until when it is good, milliseconds since the Unix epoch.
    pub(super) deadline_ms: i64,
    /// How often the message was delivered, this time included.
    pub(super) deliveries: u32,
}

/// Seals and opens the receipts of one subscription.
#[derive(Clone)]
pub(super) struct Sealer {
    subscription: SubscriptionId,
    mac: Hmac<Sha256>,
}

impl Sealer {
    pub(super) fn new(subscription: SubscriptionId, secret: &[u8; 32]) -> Self {
        let mac = Hmac::new_from_slice(secret).expect("HMAC takes keys of any length");
        Self { subscription, mac }
    }

    pub(super) fn seal(&self, receipt: &Receipt) -> String {
        let mut bytes = [0; FIELDS + SEAL];
        bytes[0] = VERSION;
        let numbers = [
            self.subscription.0,
            receipt.at.0,
            receipt.incarnation,
            receipt.number,
            receipt.deadline_ms.cast_unsigned(),
        ];
        for (field, number) in bytes[1..FIELDS].chunks_exact_mut(8).zip(numbers) {
            field.copy_from_slice(&number.to_be_bytes());
        }
        bytes[FIELDS - 4..FIELDS].copy_from_slice(&receipt.deliveries.to_be_bytes());
        let mac = self.mac.clone().chain_update(&bytes[..FIELDS]).finalize().into_bytes();
        bytes[FIELDS..].copy_from_slice(&mac[..SEAL]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Opens a receipt.
    ///
    /// # Errors
    /// `Foreign` when it is another subscription's, as far as it says; `Invalid` for everything else that this one has not
    /// sealed.
    pub(super) fn open(&self, text: &str) -> Result<Receipt, ReceiptError> {
        let mut bytes = [0; FIELDS + SEAL];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(length) if length == bytes.len() && bytes[0] == VERSION => {}
            _ => return Err(ReceiptError::Invalid),
        }
        let mut numbers = [0; 5];
        for (number, field) in numbers.iter_mut().zip(bytes[1..FIELDS].chunks_exact(8)) {
            *number = field.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        }
        let [subscription, at, incarnation, number, deadline_ms] = numbers;
        if subscription != self.subscription.0 {
            // Whether it is another's or made up cannot be told apart without the other's secret, and need not.
            return Err(ReceiptError::Foreign);
        }
        let mac = self.mac.clone().chain_update(&bytes[..FIELDS]);
        mac.verify_truncated_left(&bytes[FIELDS..]).map_err(|_| ReceiptError::Invalid)?;
        let deliveries = bytes[FIELDS - 4..FIELDS].iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        Ok(Receipt { at: At(at), incarnation, number, deadline_ms: deadline_ms.cast_signed(), deliveries })
    }
}

impl Receipt {
    pub(super) fn partition(&self) -> Partition {
        self.at.partition()
    }

    pub(super) fn offset(&self) -> Offset {
        self.at.offset()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealer(subscription: u64, secret: u8) -> Sealer {
        Sealer::new(SubscriptionId(subscription), &[secret; 32])
    }

    fn receipt() -> impl Strategy<Value = Receipt> {
        any::<(u64, u64, u64, i64, u32)>().prop_map(|(at, incarnation, number, deadline_ms, deliveries)| Receipt {
            at: At(at),
            incarnation,
            number,
            deadline_ms,
            deliveries,
        })
    }

    proptest! {
        #[test]
        fn a_receipt_is_opened_by_its_own_subscription_alone(receipt in receipt()) {
            let text = sealer(1, 7).seal(&receipt);
            prop_assert_eq!(sealer(1, 7).open(&text), Ok(receipt));
            prop_assert_eq!(sealer(1, 8).open(&text), Err(ReceiptError::Invalid));
            prop_assert_eq!(sealer(2, 7).open(&text), Err(ReceiptError::Foreign));
        }

        #[test]
        fn an_altered_receipt_is_none(receipt in receipt(), at in any::<prop::sample::Index>(), flip in 1..=255u8) {
            let mut bytes = URL_SAFE_NO_PAD.decode(sealer(1, 7).seal(&receipt)).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(sealer(1, 7).open(&URL_SAFE_NO_PAD.encode(bytes)).is_err());
        }

        #[test]
        fn foreign_text_never_panics(text in ".{0,120}") {
            prop_assert!(sealer(1, 7).open(&text).is_err());
        }
    }
}
