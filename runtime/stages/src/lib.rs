//! Runs models of which a compiler could not make one function: compiled parts, and between them host functions and control flow that
//! run one by one.
//!
//! A [`Script`] says what runs and in which order. It is data of an object, beside the parts that it calls. [`Instance`] and [`Call`]
//! are those of `graphc-engine`, for functions in stages too.

mod call;
mod families;
mod instance;
mod run;
mod script;

pub use call::Call;
pub use families::{family_of, symbols};
pub use instance::{Instance, Parts};
pub use script::{Body, Given, Script, Source, Step, Unit};
