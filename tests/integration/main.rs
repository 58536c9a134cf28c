//! graphc as a whole: models from their files to their answers, through the library and through the command line.

mod ahead;
mod batches;
mod cache;
mod cli;
mod cross;
mod emulator;
mod errors;
mod fuzz;
mod golden;
mod graphs;
mod hostile;
mod precision;
mod sharing;
mod stages;
mod state;
mod support;
