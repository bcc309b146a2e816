//! Decimal numbers, for scaling as people do it on paper.

/// `digits / 10^places`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    digits: i128,
    places: u32,
}

/// All powers of ten that a float holds exactly.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// The most places looked for: a float has 15 digits that mean something.
const PLACES: usize = 15;

/// The bound below which a float holds every whole number: one more bit than its mantissa has.
const EXACT: f64 = (1_u64 << 53) as f64;

impl From<i128> for Decimal {
    fn from(digits: i128) -> Self {
        Self { digits, places: 0 }
    }
}

impl Decimal {
    /// The decimal that `x` was written as; none when it takes more than 15 places or digits, as 1/3 does.
    pub fn of(x: f64) -> Option<Self> {
        Self::shortest(x, |short| short == x)
    }

    /// The decimal with the fewest places that is the `same` as `x`.
    pub fn shortest(x: f64, same: impl Fn(f64) -> bool) -> Option<Self> {
        for (places, ten) in (0..).zip(&TENS[..=PLACES]) {
            let digits = (x * ten).round();
            if digits.is_nan() || digits.abs() >= EXACT {
                return None;
            }
            // Both sides of the division are exact, so it gives what parsing the decimal would give.
            if same(digits / ten) {
                return Some(Self { digits: digits as i128, places });
            }
        }
        None
    }

    /// The product, or none where it has too many digits.
    pub fn times(self, other: Self) -> Option<Self> {
        let digits = self.digits.checked_mul(other.digits)?;
        Some(Self { digits, places: self.places + other.places })
    }

    /// The sum, or none where it has too many digits.
    pub fn plus(self, other: Self) -> Option<Self> {
        let places = self.places.max(other.places);
        Some(Self { digits: self.digits_at(places)?.checked_add(other.digits_at(places)?)?, places })
    }

    /// The same with the other sign.
    pub fn negative(self) -> Self {
        Self { digits: -self.digits, ..self }
    }

    /// The whole number nearest to the quotient (halves away from zero); none by zero or with too many digits.
    pub fn over(self, other: Self) -> Option<i128> {
        let places = self.places.max(other.places);
        let (n, d) = (self.digits_at(places)?, other.digits_at(places)?);
        let (quotient, rest) = (n.checked_div(d)?, n.checked_rem(d)?);
        let away = if (n < 0) == (d < 0) { 1 } else { -1 };
        Some(if rest.unsigned_abs() >= d.unsigned_abs() - rest.unsigned_abs() { quotient + away } else { quotient })
    }

    /// The nearest float, as long as both sides of the division are exact; else one next to it.
    pub fn to_f64(self) -> f64 {
        let ten = TENS.get(self.places as usize).copied().unwrap_or_else(|| 10_f64.powi(self.places as i32));
        self.digits as f64 / ten
    }

    fn digits_at(self, places: u32) -> Option<i128> {
        self.digits.checked_mul(10_i128.checked_pow(places - self.places)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_what_was_written() {
        assert_eq!(Decimal::of(0.1), Some(Decimal { digits: 1, places: 1 }));
        assert_eq!(Decimal::of(-273.15), Some(Decimal { digits: -27315, places: 2 }));
        assert_eq!(Decimal::of(1e3), Some(Decimal { digits: 1000, places: 0 }));
        for none in [1.0 / 3.0, 1e-20, 1e300, f64::NAN, f64::INFINITY] {
            assert_eq!(Decimal::of(none), None, "{none}");
        }
    }

    #[test]
    fn divides_to_the_nearest() {
        let over = |a: f64, b: f64| Decimal::of(a).expect("short").over(Decimal::of(b).expect("short"));
        assert_eq!(over(231.4, 0.1), Some(2314));
        assert_eq!(over(0.25, 0.1), Some(3));
        assert_eq!(over(-0.25, 0.1), Some(-3));
        assert_eq!(over(0.25, -0.1), Some(-3));
        assert_eq!(over(0.24, 0.1), Some(2));
        assert_eq!(over(5.0, 10.0), Some(1));
        assert_eq!(over(-4.0, 10.0), Some(0));
        assert_eq!(over(1.0, 0.0), None);
    }
}
