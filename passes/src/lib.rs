//! From tensor IR to the plan: one file a pass, the pipeline that runs them, and the plan's data structures, memory planner and checker.

pub mod pass;
pub mod plan;
pub mod target;
