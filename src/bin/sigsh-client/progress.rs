//! How far it is, for a person at a terminal.

use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What a signature counts for beside the bytes that are sent for it: many small files take as long as their signatures do.
const SIGNATURE: u64 = 64 * 1024;

/// A line that shows files, bytes, rate and the time that is left; nothing where nobody looks.
pub(crate) struct Progress {
    bar: ProgressBar,
    began: Instant,
    files: u64,
    bytes: u64,
    sent: AtomicU64,
    signed: AtomicU64,
    /// What was sent before the request that is under way.
    before: AtomicU64,
}

impl Progress {
    /// For so many bytes of so many files.
    pub(crate) fn new(bytes: u64, files: u64) -> Progress {
        let target = if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(bytes.saturating_add(files.saturating_mul(SIGNATURE))), target);
        // Where there is no room for all of it, the bar goes first, then what stands last.
        if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {eta} {msg}") {
            bar.set_style(style);
        }
        let progress = Progress { bar, began: Instant::now(), files, bytes, sent: 0.into(), signed: 0.into(), before: 0.into() };
        progress.show();
        progress
    }

    /// So many bytes more were taken in.
    pub(crate) fn bytes(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        self.show();
    }

    /// So many signatures are there by now.
    pub(crate) fn signed(&self, number: u64) {
        self.signed.store(number, Ordering::Relaxed);
        self.show();
    }

    /// A request begins.
    pub(crate) fn begin(&self) {
        self.before.store(self.sent.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// What it has sent is sent once more.
    pub(crate) fn restart(&self) {
        self.sent.store(self.before.load(Ordering::Relaxed), Ordering::Relaxed);
        self.show();
    }

    fn show(&self) {
        if self.bar.is_hidden() {
            return;
        }
        let (sent, signed) = (self.sent.load(Ordering::Relaxed), self.signed.load(Ordering::Relaxed));
        let elapsed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let rate = sent.saturating_mul(1000).checked_div(elapsed).unwrap_or_default();
        self.bar.set_prefix(format!("{signed}/{}", self.files));
        self.bar.set_message(format!("{}/{} {}/s", BinaryBytes(sent), BinaryBytes(self.bytes), BinaryBytes(rate)));
        self.bar.set_position(sent.saturating_add(signed.saturating_mul(SIGNATURE)));
    }

    /// Takes the line away.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
