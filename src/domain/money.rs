//! US dollars without rounding surprises.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount in nano-dollars (10⁻⁹ USD); a token can cost less than a micro-dollar.
/// On the wire: a decimal string, such as `"0.0125"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(i64);

/// The text was not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an amount in USD: write a decimal string such as \"1.50\", at most nine decimals")]
pub struct UsdError;

const NANOS: i64 = 1_000_000_000;

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From nano-dollars, as the store keeps it.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// In nano-dollars.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// The price of `tokens` at `self` per million tokens, rounded up.
    #[must_use]
    pub fn per_million(self, tokens: u64) -> Self {
        let nanos = i128::from(self.0) * i128::from(tokens);
        let rounded = (nanos + 999_999) / 1_000_000;
        Self(i64::try_from(rounded).unwrap_or(i64::MAX))
    }

    /// The difference, zero where it would be less.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        let left = self.0.saturating_sub(other.0);
        Self(if left < 0 { 0 } else { left })
    }

    /// The sum, saturating.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nanos = self.0.unsigned_abs();
        let (whole, part) = (nanos / NANOS.unsigned_abs(), nanos % NANOS.unsigned_abs());
        if part == 0 {
            return write!(f, "{sign}{whole}");
        }
        let digits = format!("{part:09}");
        write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

impl FromStr for Usd {
    type Err = UsdError;

    fn from_str(text: &str) -> Result<Self, UsdError> {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || part.len() > 9 || !all_digits(whole) || !all_digits(part) {
            return Err(UsdError);
        }
        let whole: i64 = whole.parse().ok().ok_or(UsdError)?;
        let part: i64 = format!("{part:0<9}").parse().ok().ok_or(UsdError)?;
        whole.checked_mul(NANOS).and_then(|n| n.checked_add(part)).map(Self).ok_or(UsdError)
    }
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_survive_the_wire() {
        for (text, nanos) in [("0", 0), ("1.5", 1_500_000_000), ("0.000000001", 1)] {
            assert_eq!(text.parse(), Ok(Usd(nanos)));
            assert_eq!(Usd(nanos).to_string(), text);
        }
        for bad in ["", ".5", "-1", "1e3", "0.0000000001", "99999999999999999999"] {
            assert_eq!(bad.parse::<Usd>(), Err(UsdError), "{bad}");
        }
    }

    #[test]
    fn a_price_is_rounded_up_so_that_a_hold_is_an_upper_bound() {
        let price: Usd = Usd(150_000_000); // 0.15 USD per million tokens
        assert_eq!(price.per_million(1), Usd(150));
        assert_eq!(Usd(1).per_million(1), Usd(1));
    }
}
