//! How far it is, for a person at a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A bar that shows bytes, files, rate and the time that is left; nothing where nobody looks.
pub(crate) struct Progress {
    bar: ProgressBar,
    files: u64,
    signed: AtomicU64,
    before: AtomicU64,
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
        bar.set_message(format!("0/{files}"));
        Progress { bar, files, signed: 0.into(), before: 0.into() }
    }

    /// So many bytes more were taken in.
    pub(crate) fn bytes(&self, bytes: usize) {
        self.bar.inc(bytes as u64);
    }

    /// One more is signed.
    pub(crate) fn signed(&self) {
        let signed = self.signed.fetch_add(1, Relaxed) + 1;
        self.bar.set_message(format!("{signed}/{}", self.files));
    }

    /// A session begins, after others that went well.
    pub(crate) fn begin(&self) {
        self.before.store(self.bar.position(), Relaxed);
    }

    /// A new attempt at it begins.
    pub(crate) fn restart(&self) {
        self.bar.set_position(self.before.load(Relaxed));
        self.bar.reset_eta();
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
