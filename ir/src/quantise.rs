//! The ranges and steps of TensorFlow's quantisation.

/// The range of fake quantisation, moved so that zero is one of its steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nudged {
    pub low: f32,
    pub high: f32,
    pub step: f32,
    /// Steps a unit.
    pub per_unit: f32,
    /// False of the range from zero to zero, which holds nothing.
    pub open: bool,
}

impl Nudged {
    /// Of the range `low..=high` in steps that are numbered from `least` to `most`.
    pub fn new(low: f32, high: f32, least: f32, most: f32) -> Nudged {
        let step = (high - low) / (most - least);
        let zero = least - low / step;
        let zero = if zero < least {
            least
        } else if zero > most {
            most
        } else {
            f32::from(zero.round() as u16)
        };
        let open = low != 0.0 || high != 0.0;
        Nudged { low: (least - zero) * step, high: (most - zero) * step, step, per_unit: (most - least) / (high - low), open }
    }

    /// The step that stands for zero, counted from the lowest.
    pub fn zero(&self) -> f32 {
        (-self.low * self.per_unit + 0.5).floor()
    }
}

/// The steps of quantisation around zero, from `least` to `most` steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Symmetric {
    pub low: f64,
    pub high: f64,
    /// Steps a unit, and its inverse.
    pub scale: f64,
    pub step: f64,
}

impl Symmetric {
    /// For numbers in `low..=high`; every result is rounded by `r` to a type of which `greatest` is the largest number.
    pub fn new([low, high]: [f64; 2], [least, most]: [f64; 2], greatest: f64, r: impl Fn(f64) -> f64) -> Symmetric {
        let side = |limit: f64, bound: f64| if r(limit * bound) > 0.0 { r(limit / bound) } else { greatest };
        let (from_low, from_high) = (side(least, low), side(most, high));
        if from_low < from_high {
            let step = r(low / least);
            Symmetric { low, high: r(most * step), scale: from_low, step }
        } else {
            let step = r(high / most);
            Symmetric { low: r(least * step), high, scale: from_high, step }
        }
    }
}

/// The least and the greatest step of `bits` bits.
pub fn bounds(bits: i32, signed: bool, narrow: bool) -> [f64; 2] {
    let power = 2f64.powi(if signed { bits - 1 } else { bits });
    let least = match (signed, narrow) {
        (false, _) => 0.0,
        (true, true) => 1.0 - power,
        (true, false) => -power,
    };
    [least, power - 1.0]
}
