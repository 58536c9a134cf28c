//! Element types.

use std::fmt;
use std::str::FromStr;

macro_rules! elem_types {
    ($($(#[$doc:meta])* $variant:ident = $number:literal $name:literal $size:literal),* $(,)?) => {
        /// The type of one element of a tensor; the same set as TensorFlow's `DataType`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Elem { $($(#[$doc])* $variant),* }

        impl Elem {
            /// All element types, in declaration order.
            pub const ALL: &'static [Elem] = &[$(Elem::$variant),*];

            /// Name in the text form.
            pub fn name(self) -> &'static str {
                match self { $(Elem::$variant => $name),* }
            }

            /// Bytes of one element in memory; 0 where elements have no fixed size (strings, handles).
            pub fn size(self) -> usize {
                match self { $(Elem::$variant => $size),* }
            }

            /// Number in TensorFlow's `DataType`.
            pub fn number(self) -> i32 {
                match self { $(Elem::$variant => $number),* }
            }

            /// The type with that number; None for types that the IR does not have.
            pub fn from_number(number: i32) -> Option<Elem> {
                match number { $($number => Some(Elem::$variant),)* _ => None }
            }
        }
    };
}

elem_types! {
    Bool = 10 "bool" 1,
    /// Stored one to a byte, sign-extended.
    I4 = 29 "i4" 1,
    I8 = 6 "i8" 1,
    I16 = 5 "i16" 2,
    I32 = 3 "i32" 4,
    I64 = 9 "i64" 8,
    /// Stored one to a byte.
    U4 = 30 "u4" 1,
    U8 = 4 "u8" 1,
    U16 = 17 "u16" 2,
    U32 = 22 "u32" 4,
    U64 = 23 "u64" 8,
    F8E4M3FN = 25 "f8e4m3fn" 1,
    F8E5M2 = 24 "f8e5m2" 1,
    /// The 8-bit floats without infinities and negative zero are only kept and moved, as in TensorFlow: nothing computes with them.
    F8E4M3FNUZ = 26 "f8e4m3fnuz" 1,
    F8E4M3B11FNUZ = 27 "f8e4m3b11fnuz" 1,
    F8E5M2FNUZ = 28 "f8e5m2fnuz" 1,
    F16 = 19 "f16" 2,
    BF16 = 14 "bf16" 2,
    F32 = 1 "f32" 4,
    F64 = 2 "f64" 8,
    C64 = 8 "c64" 8,
    C128 = 18 "c128" 16,
    QI8 = 11 "qi8" 1,
    QU8 = 12 "qu8" 1,
    QI16 = 15 "qi16" 2,
    QU16 = 16 "qu16" 2,
    QI32 = 13 "qi32" 4,
    Str = 7 "string" 0,
    /// A handle to state: a variable, table or queue.
    Resource = 20 "resource" 0,
    /// A value of a type of its own: a list, a dataset.
    Variant = 21 "variant" 0,
}

impl Elem {
    /// f16, bf16, f32, f64 and the 8-bit floats that can be computed with.
    pub fn is_float(self) -> bool {
        matches!(self, Elem::F8E4M3FN | Elem::F8E5M2 | Elem::F16 | Elem::BF16 | Elem::F32 | Elem::F64)
    }

    /// Signed or unsigned integers; not bool, not quantised.
    pub fn is_int(self) -> bool {
        self.is_signed_int() || self.is_unsigned_int()
    }

    pub fn is_signed_int(self) -> bool {
        matches!(self, Elem::I4 | Elem::I8 | Elem::I16 | Elem::I32 | Elem::I64)
    }

    pub fn is_unsigned_int(self) -> bool {
        matches!(self, Elem::U4 | Elem::U8 | Elem::U16 | Elem::U32 | Elem::U64)
    }

    /// The type of the parts of a complex number; other types are their own.
    pub fn part(self) -> Elem {
        match self {
            Elem::C64 => Elem::F32,
            Elem::C128 => Elem::F64,
            e => e,
        }
    }

    /// The type of complex numbers with parts of this type, f32 or f64; other types are their own.
    pub fn complex(self) -> Elem {
        match self {
            Elem::F32 => Elem::C64,
            Elem::F64 => Elem::C128,
            e => e,
        }
    }

    pub fn is_complex(self) -> bool {
        matches!(self, Elem::C64 | Elem::C128)
    }

    pub fn is_quantised(self) -> bool {
        matches!(self, Elem::QI8 | Elem::QU8 | Elem::QI16 | Elem::QU16 | Elem::QI32)
    }

    /// Floats that nothing computes with.
    pub fn is_kept_only(self) -> bool {
        matches!(self, Elem::F8E4M3FNUZ | Elem::F8E4M3B11FNUZ | Elem::F8E5M2FNUZ)
    }

    /// The integer type of the bits of a quantised type, or of one that is only kept; other types are their own.
    pub fn stored(self) -> Elem {
        match self {
            Elem::QI8 => Elem::I8,
            Elem::QU8 => Elem::U8,
            Elem::QI16 => Elem::I16,
            Elem::QU16 => Elem::U16,
            Elem::QI32 => Elem::I32,
            e if e.is_kept_only() => Elem::U8,
            e => e,
        }
    }

    /// Floats and integers: what has an order and arithmetic.
    pub fn is_real(self) -> bool {
        self.is_float() || self.is_int()
    }

    /// Elements of fixed size that compiled code can hold in memory.
    pub fn is_plain(self) -> bool {
        self.size() != 0
    }
}

impl fmt::Display for Elem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Elem {
    type Err = ();

    fn from_str(s: &str) -> Result<Elem, ()> {
        Elem::ALL.iter().copied().find(|e| e.name() == s).ok_or(())
    }
}
