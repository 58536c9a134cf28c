//! Choices that are timed on this machine, kept in a file from one process to the next.

use graphc_cpu::TunedCpu;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A CPU whose choices are timed, and where they are kept.
pub struct Tuning {
    pub cpu: TunedCpu,
    file: Option<PathBuf>,
    /// What the file holds.
    kept: Mutex<String>,
}

impl Tuning {
    /// With the choices in `folder`, if there are any.
    pub fn open(folder: Option<&Path>) -> Tuning {
        let name = format!("choices-{:?}.txt", graphc_kernels::tier::tier()).to_lowercase();
        let file = folder.map(|f| f.join(name));
        let kept = file.as_ref().and_then(|f| std::fs::read_to_string(f).ok()).unwrap_or_default();
        Tuning { cpu: TunedCpu::from_text(&kept), file, kept: Mutex::new(kept) }
    }

    /// Keeps what was chosen since. Choices that cannot be kept are made again another time.
    pub fn keep(&self) {
        let Some(file) = &self.file else { return };
        let text = self.cpu.to_text();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if text == *kept {
            return;
        }
        // Readers see the whole file or none.
        let beside = file.with_extension(std::process::id().to_string());
        let written = file.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&beside, &text));
        if written.and_then(|()| std::fs::rename(&beside, file)).is_ok() {
            *kept = text;
        }
    }
}
