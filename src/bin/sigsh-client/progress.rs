//! How far it is, for a person at a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};

/// A bar that shows bytes, files, rate and the time that is left; nothing where nobody looks.
#[derive(Clone)]
pub(crate) struct Progress {
    bar: ProgressBar,
    files: u64,
}

impl Progress {
    /// For so many bytes of so many files.
    pub(crate) fn new(bytes: u64, files: u64) -> Progress {
        let target = if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(bytes), target);
        let template = "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let progress = Progress { bar, files };
        progress.signed(0);
        progress
    }

    /// So many bytes more were taken in.
    pub(crate) fn bytes(&self, bytes: usize) {
        self.bar.inc(bytes as u64);
    }

    /// So many files are signed by now.
    pub(crate) fn signed(&self, files: u64) {
        self.bar.set_message(format!("{files}/{}", self.files));
    }

    /// A new attempt begins.
    pub(crate) fn restart(&self) {
        self.bar.reset();
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
