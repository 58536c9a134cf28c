//! The numbers that scatters, running sums and sorts work on.

use core::cmp::Ordering;
use half::{bf16, f16};

/// A number of any element type that is not complex. Integers wrap.
pub(super) trait Number: Copy + PartialOrd + Send + Sync + 'static {
    const ZERO: Self;
    const ONE: Self;
    fn add(self, o: Self) -> Self;
    fn sub(self, o: Self) -> Self;
    fn mul(self, o: Self) -> Self;
    /// Integer division by zero is zero.
    fn div(self, o: Self) -> Self;
    /// A total order in which NaN is below everything.
    fn order(self, o: Self) -> Ordering;
}

macro_rules! integer {
    ($($t:ty),*) => {$(
        impl Number for $t {
            const ZERO: Self = 0;
            const ONE: Self = 1;
            #[inline(always)]
            fn add(self, o: Self) -> Self {
                self.wrapping_add(o)
            }
            #[inline(always)]
            fn sub(self, o: Self) -> Self {
                self.wrapping_sub(o)
            }
            #[inline(always)]
            fn mul(self, o: Self) -> Self {
                self.wrapping_mul(o)
            }
            #[inline(always)]
            fn div(self, o: Self) -> Self {
                if o == 0 { 0 } else { self.wrapping_div(o) }
            }
            #[inline(always)]
            fn order(self, o: Self) -> Ordering {
                self.cmp(&o)
            }
        }
    )*};
}
integer!(i8, i16, i32, i64, u8, u16, u32, u64);

macro_rules! float {
    ($($t:ty: $zero:expr, $one:expr);* $(;)?) => {$(
        impl Number for $t {
            const ZERO: Self = $zero;
            const ONE: Self = $one;
            #[inline(always)]
            fn add(self, o: Self) -> Self {
                self + o
            }
            #[inline(always)]
            fn sub(self, o: Self) -> Self {
                self - o
            }
            #[inline(always)]
            fn mul(self, o: Self) -> Self {
                self * o
            }
            #[inline(always)]
            fn div(self, o: Self) -> Self {
                self / o
            }
            #[inline(always)]
            fn order(self, o: Self) -> Ordering {
                match self.partial_cmp(&o) {
                    Some(order) => order,
                    None => (!self.is_nan()).cmp(&!o.is_nan()),
                }
            }
        }
    )*};
}
float!(f32: 0.0, 1.0; f64: 0.0, 1.0; f16: f16::ZERO, f16::ONE; bf16: bf16::ZERO, bf16::ONE);

/// Runs `$run::<T>(..)` with the number type of code `$elem`; returns `InvalidShape` for other types.
macro_rules! by_number {
    ($elem:expr, $run:ident($($arg:expr),* $(,)?)) => {{
        use graphc_abi::args::data::elem;
        match $elem {
            elem::F32 => $run::<f32>($($arg),*),
            elem::F64 => $run::<f64>($($arg),*),
            elem::F16 => $run::<half::f16>($($arg),*),
            elem::BF16 => $run::<half::bf16>($($arg),*),
            elem::I8 => $run::<i8>($($arg),*),
            elem::I16 => $run::<i16>($($arg),*),
            elem::I32 => $run::<i32>($($arg),*),
            elem::I64 => $run::<i64>($($arg),*),
            elem::U8 | elem::BOOL => $run::<u8>($($arg),*),
            elem::U16 => $run::<u16>($($arg),*),
            elem::U32 => $run::<u32>($($arg),*),
            elem::U64 => $run::<u64>($($arg),*),
            _ => return graphc_abi::Status::InvalidShape as i32,
        }
    }};
}
pub(super) use by_number;

/// Bytes of an element of type `code`; zero for an unknown code.
pub(super) fn bytes(code: i64) -> usize {
    use graphc_abi::args::data::elem::*;
    match code {
        I8 | U8 | BOOL => 1,
        F16 | BF16 | I16 | U16 => 2,
        F32 | I32 | U32 => 4,
        F64 | I64 | U64 | C64 => 8,
        C128 => 16,
        _ => 0,
    }
}
