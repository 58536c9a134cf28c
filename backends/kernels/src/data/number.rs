//! The numbers that scatters, running sums and sorts work on.

use core::cmp::Ordering;
use half::{bf16, f16};

/// A number. Integers wrap.
pub(super) trait Number: Copy + PartialOrd + Send + Sync + 'static {
    const ZERO: Self;
    const ONE: Self;
    fn add(self, o: Self) -> Self;
    fn sub(self, o: Self) -> Self;
    fn mul(self, o: Self) -> Self;
    /// Integer division by zero is zero.
    fn div(self, o: Self) -> Self;
    /// A total order in which NaN is below everything; without meaning for complex numbers.
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

/// A complex number: real and imaginary part.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
#[repr(C)]
pub(super) struct Complex<T>(T, T);

impl<T: Number> Number for Complex<T> {
    const ZERO: Self = Complex(T::ZERO, T::ZERO);
    const ONE: Self = Complex(T::ONE, T::ZERO);
    #[inline(always)]
    fn add(self, o: Self) -> Self {
        Complex(self.0.add(o.0), self.1.add(o.1))
    }
    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        Complex(self.0.sub(o.0), self.1.sub(o.1))
    }
    #[inline(always)]
    fn mul(self, o: Self) -> Self {
        Complex(self.0.mul(o.0).sub(self.1.mul(o.1)), self.0.mul(o.1).add(self.1.mul(o.0)))
    }
    #[inline(always)]
    fn div(self, o: Self) -> Self {
        let norm = o.0.mul(o.0).add(o.1.mul(o.1));
        let z = self.mul(Complex(o.0, T::ZERO.sub(o.1)));
        Complex(z.0.div(norm), z.1.div(norm))
    }
    #[inline(always)]
    fn order(self, o: Self) -> Ordering {
        self.0.order(o.0).then(self.1.order(o.1))
    }
}

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

/// The same, for complex numbers too.
macro_rules! by_number_or_complex {
    ($elem:expr, $run:ident($($arg:expr),* $(,)?)) => {
        match $elem {
            graphc_abi::args::data::elem::C64 => $run::<crate::data::number::Complex<f32>>($($arg),*),
            graphc_abi::args::data::elem::C128 => $run::<crate::data::number::Complex<f64>>($($arg),*),
            elem => crate::data::number::by_number!(elem, $run($($arg),*)),
        }
    };
}
pub(super) use by_number_or_complex;

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
