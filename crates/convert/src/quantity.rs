//! Kubernetes quantities: `128Mi`, `4`, `100m`, `1.5G`, `1e3` (apimachinery, pkg/api/resource).

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A quantity, exact to the billionth, with its family of suffixes.
#[derive(Clone, Copy, Debug, Eq)]
pub struct Quantity {
    nanos: i128,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Binary,
    Decimal,
    Exponent,
}

const NANOS: i128 = 1_000_000_000;

/// Kubernetes also refuses numbers above 2^63 - 1.
const LARGEST: i128 = i64::MAX as i128 * NANOS;

const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];

impl Quantity {
    /// Zero.
    pub const ZERO: Self = Self { nanos: 0, form: Form::Decimal };

    /// Whole units, with decimal suffixes.
    pub const fn decimal(value: i64) -> Self {
        Self { nanos: value as i128 * NANOS, form: Form::Decimal }
    }

    /// Thousandths.
    pub const fn milli(value: i64) -> Self {
        Self { nanos: value as i128 * (NANOS / 1000), form: Form::Decimal }
    }

    /// Whole units, with binary suffixes.
    pub const fn binary(value: i64) -> Self {
        Self { nanos: value as i128 * NANOS, form: Form::Binary }
    }

    /// Mebibytes.
    pub const fn mebibytes(value: i64) -> Self {
        Self::binary(value.saturating_mul(1 << 20))
    }

    /// The same number with the suffixes of `other`.
    pub const fn written_like(self, other: Self) -> Self {
        Self { form: other.form, ..self }
    }

    /// In whole units, rounded up.
    pub fn value(self) -> i64 {
        self.scaled(0)
    }

    /// In thousands, rounded up.
    pub fn thousands(self) -> i64 {
        self.scaled(3)
    }

    fn scaled(self, power: u32) -> i64 {
        let unit = NANOS * 10_i128.pow(power);
        let up = self.nanos.div_euclid(unit) + i128::from(self.nanos.rem_euclid(unit) > 0);
        i64::try_from(up).unwrap_or(i64::MAX)
    }

    /// Whether it is zero.
    pub const fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// The sum. Zero takes the suffixes of the other summand.
    pub fn plus(self, other: Self) -> Self {
        let form = if self.is_zero() { other.form } else { self.form };
        let nanos = self.nanos.saturating_add(other.nanos).clamp(-LARGEST, LARGEST);
        Self { nanos, form }
    }

    /// The difference.
    pub fn minus(self, other: Self) -> Self {
        self.plus(Self { nanos: -other.nanos, ..other })
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// A text that is not a quantity.
#[derive(Debug, PartialEq, Eq)]
pub struct NoQuantity;

impl FromStr for Quantity {
    type Err = NoQuantity;

    fn from_str(text: &str) -> Result<Self, NoQuantity> {
        let (sign, rest) = match text.as_bytes().first() {
            Some(b'-') => (-1, &text[1..]),
            Some(b'+') => (1, &text[1..]),
            _ => (1, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(NoQuantity);
        }
        // Kubernetes also drops what is finer than a billionth.
        let fraction = fraction.get(..fraction.len().min(18)).unwrap_or_default();
        let digits = format!("{whole}{fraction}");
        let digits: i128 = digits.parse().map_err(|_| NoQuantity)?;
        let (form, binary, power) = suffix_of(suffix).ok_or(NoQuantity)?;
        let scale = 10_i128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        let unit = binary.checked_mul(NANOS).ok_or(NoQuantity)?;
        let nanos = digits.checked_mul(unit).ok_or(NoQuantity)?;
        let shift = 10_i128.checked_pow(power.unsigned_abs()).ok_or(NoQuantity)?;
        let nanos =
            if power < 0 { Some(divided_up(nanos, shift)) } else { nanos.checked_mul(shift) };
        let nanos = divided_up(nanos.ok_or(NoQuantity)?, scale) * sign;
        Ok(Self { nanos: nanos.clamp(-LARGEST, LARGEST), form })
    }
}

fn divided_up(value: i128, by: i128) -> i128 {
    value / by + i128::from(value % by > 0)
}

/// The family, the factor of a binary suffix, and the power of ten of a decimal one.
fn suffix_of(suffix: &str) -> Option<(Form, i128, i32)> {
    if let Some(power) = BINARY.iter().position(|one| !one.is_empty() && *one == suffix) {
        return Some((Form::Binary, 1 << (10 * power), 0));
    }
    if let Some((_, power)) = DECIMAL.iter().find(|(one, _)| *one == suffix) {
        return Some((Form::Decimal, 1, *power));
    }
    let power = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    (-18..=18).contains(&power).then_some((Form::Exponent, 1, power))
}

impl fmt::Display for Quantity {
    /// In canonical form: with the largest suffix for which the number is whole.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.nanos % NANOS == 0;
        let units = self.nanos / NANOS;
        if self.form == Form::Binary && whole && units.abs() >= 1024 {
            let (mut number, mut suffix) = (units, 0);
            while number % 1024 == 0 && suffix + 1 < BINARY.len() {
                number /= 1024;
                suffix += 1;
            }
            return write!(f, "{number}{}", BINARY.get(suffix).unwrap_or(&""));
        }
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let (mut number, mut power) = (self.nanos, -9);
        while number % 1000 == 0 && power < 18 {
            number /= 1000;
            power += 3;
        }
        if self.form == Form::Exponent && power != 0 {
            return write!(f, "{number}e{power}");
        }
        let suffix = DECIMAL.iter().find(|(_, of)| *of == power).map_or("", |(suffix, _)| *suffix);
        write!(f, "{number}{suffix}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Quantity {
        text.parse().unwrap_or_else(|NoQuantity| panic!("{text}"))
    }

    #[test]
    fn written_as_kubernetes_writes_them() {
        let all = [
            ("128Mi", "128Mi"),
            ("1024Mi", "1Gi"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("50M", "50M"),
            ("1e3", "1e3"),
            ("100Ki", "100Ki"),
            ("0", "0"),
            ("12e6", "12e6"),
            ("1500m", "1500m"),
            (".5Gi", "512Mi"),
        ];
        for (text, written) in all {
            assert_eq!(read(text).to_string(), written, "{text}");
        }
    }

    #[test]
    fn sums_keep_the_suffixes_of_the_first() {
        assert_eq!(read("128Mi").plus(Quantity::binary(302_252_032)).to_string(), "426240Ki");
        assert_eq!(read("128M").plus(Quantity::mebibytes(1)).to_string(), "129048576");
        assert_eq!(Quantity::ZERO.plus(read("4Gi")).to_string(), "4Gi");
        assert_eq!(read("4Gi").minus(read("1Gi")).to_string(), "3Gi");
    }

    #[test]
    fn an_invalid_quantity_is_refused() {
        for text in ["", "Mi", "1.2.3", "1 Gi", "4GB", "0x10", "1e99", "--1", "٣"] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-+]?[0-9.]{0,30}[a-zA-Z]{0,3}[-0-9]{0,3}|.{0,12}") {
            if let Ok(read) = text.parse::<Quantity>() {
                let again: Quantity = read.to_string().parse().unwrap();
                prop_assert_eq!(again, read);
                let _ = (read.value(), read.thousands());
            }
        }
    }
}
