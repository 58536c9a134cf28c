//! TensorFlow's element types.

use std::fmt;

macro_rules! data_types {
    ($($variant:ident = $number:literal, $name:literal, $size:expr;)*) => {
        /// An element type of TensorFlow, reference flag removed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DataType { $($variant = $number),* }

        impl DataType {
            /// Every type.
            pub const ALL: &'static [DataType] = &[$(DataType::$variant),*];

            /// The type with this number, or the type that this number is a reference to. None for 0 and unknown numbers.
            pub fn from_number(number: i32) -> Option<DataType> {
                match if number > 100 { number - 100 } else { number } { $($number => Some(DataType::$variant),)* _ => None }
            }

            /// TensorFlow's name in lower case, such as `float32`.
            pub fn name(self) -> &'static str {
                match self { $(DataType::$variant => $name),* }
            }

            /// Bytes of an element; None where a tensor's elements are not fixed-size bytes (string, resource, variant).
            /// Types below a byte (`int4`) take one byte each, as TensorFlow stores them.
            pub fn size(self) -> Option<usize> {
                match self { $(DataType::$variant => $size),* }
            }
        }
    };
}

data_types! {
    Float = 1, "float32", Some(4);
    Double = 2, "float64", Some(8);
    Int32 = 3, "int32", Some(4);
    Uint8 = 4, "uint8", Some(1);
    Int16 = 5, "int16", Some(2);
    Int8 = 6, "int8", Some(1);
    String = 7, "string", None;
    Complex64 = 8, "complex64", Some(8);
    Int64 = 9, "int64", Some(8);
    Bool = 10, "bool", Some(1);
    Qint8 = 11, "qint8", Some(1);
    Quint8 = 12, "quint8", Some(1);
    Qint32 = 13, "qint32", Some(4);
    Bfloat16 = 14, "bfloat16", Some(2);
    Qint16 = 15, "qint16", Some(2);
    Quint16 = 16, "quint16", Some(2);
    Uint16 = 17, "uint16", Some(2);
    Complex128 = 18, "complex128", Some(16);
    Half = 19, "float16", Some(2);
    Resource = 20, "resource", None;
    Variant = 21, "variant", None;
    Uint32 = 22, "uint32", Some(4);
    Uint64 = 23, "uint64", Some(8);
    Float8E5m2 = 24, "float8_e5m2", Some(1);
    Float8E4m3fn = 25, "float8_e4m3fn", Some(1);
    Float8E4m3fnuz = 26, "float8_e4m3fnuz", Some(1);
    Float8E4m3b11fnuz = 27, "float8_e4m3b11fnuz", Some(1);
    Float8E5m2fnuz = 28, "float8_e5m2fnuz", Some(1);
    Int4 = 29, "int4", Some(1);
    Uint4 = 30, "uint4", Some(1);
    Int2 = 31, "int2", Some(1);
    Uint2 = 32, "uint2", Some(1);
    Float4E2m1fn = 33, "float4_e2m1fn", Some(1);
}

impl DataType {
    /// TensorFlow's number of the type.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// Whether this number is that of a reference type (`float_ref` and such).
    pub fn is_ref_number(number: i32) -> bool {
        number > 100
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
