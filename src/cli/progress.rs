//! A line that shows what takes long, on a terminal only.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// Shows `text` with a spinner until it is dropped; nothing where standard error is no terminal.
pub fn line(text: &str) -> Line {
    if !std::io::stderr().is_terminal() {
        return Line(None);
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::default_spinner());
    bar.set_message(text.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    Line(Some(bar))
}

pub struct Line(Option<ProgressBar>);

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
