//! Tables of host functions under names of their own, so that a program links only those which its model needs.

use graphc_host::{Family, HostFn, families};
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;

macro_rules! export {
    ($($symbol:ident $family:ident),*) => {
        $(
            #[doc = concat!("The host functions of the family `", stringify!($family), "`.")]
            #[unsafe(no_mangle)]
            #[allow(non_upper_case_globals)]
            pub static $symbol: Family = families::$family;
        )*

        /// Name and address of every table, for what links objects in memory.
        pub fn symbols() -> impl Iterator<Item = (&'static str, *const c_void)> {
            [$((stringify!($symbol), ptr::from_ref(&$symbol).cast())),*].into_iter()
        }

        /// The symbol of the table that has the host function of an op.
        pub fn family_of(op: &str, of_strings: bool) -> Option<&'static str> {
            let all = [$((stringify!($symbol), &families::$family)),*];
            let with = |specific| all.iter().find(|(_, f)| f.has(op, specific)).map(|(s, _)| *s);
            if of_strings { with(true).or_else(|| with(false)) } else { with(false) }
        }
    };
}
graphc_host::for_each_family!(export);

/// Host functions by op: those for nodes of strings, and the others.
#[derive(Default)]
pub struct Functions {
    of_strings: HashMap<&'static str, HostFn>,
    other: HashMap<&'static str, HostFn>,
}

impl Functions {
    /// The functions of these tables.
    ///
    /// # Safety
    /// Each is the address of one of [`symbols`].
    pub unsafe fn of(tables: &[*const c_void]) -> Functions {
        let mut all = Functions::default();
        for table in tables {
            // SAFETY: by this function's contract; the tables are static.
            if let Some(family) = unsafe { table.cast::<Family>().as_ref() } {
                all.of_strings.extend(family.of_strings.iter().copied());
                all.other.extend(family.tables.iter().flat_map(|t| t.iter().copied()));
            }
        }
        all
    }

    /// The host function of an op; `of_strings` for a node that has strings.
    pub fn find(&self, op: &str, of_strings: bool) -> Option<HostFn> {
        self.of_strings.get(op).filter(|_| of_strings).or_else(|| self.other.get(op)).copied()
    }
}
