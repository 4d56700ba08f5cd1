//! How far it is, for a person at a terminal.

use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// What a signature counts for beside the bytes that are sent for it: many small files take as long as their signatures do.
const SIGNATURE: u64 = 64 * 1024;

/// How many columns the longest line may take, but for the bar.
const WIDE: u16 = 60;

/// A line that shows files, bytes, rate and the time that is left; nothing where nobody looks.
pub(crate) struct Progress {
    bar: ProgressBar,
    began: Instant,
    files: u64,
    bytes: u64,
    sent: AtomicU64,
    signed: AtomicU64,
    /// What both were before the session that is under way.
    before: [AtomicU64; 2],
}

impl Progress {
    /// For so many bytes of so many files.
    pub(crate) fn new(bytes: u64, files: u64) -> Progress {
        let target = if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(bytes.saturating_add(files.saturating_mul(SIGNATURE))), target);
        // Where there may be no room for all of it, there is no bar, and what stands last is cut off.
        let narrow = rustix::termios::tcgetwinsize(io::stderr()).is_ok_and(|size| size.ws_col < WIDE);
        let template = if narrow { "{prefix} {eta} {wide_msg}" } else { "{prefix} {wide_bar} {eta} {msg}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let progress =
            Progress { bar, began: Instant::now(), files, bytes, sent: 0.into(), signed: 0.into(), before: Default::default() };
        progress.show();
        progress
    }

    /// So many bytes more were taken in.
    pub(crate) fn bytes(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Relaxed);
        self.show();
    }

    /// One more is signed.
    pub(crate) fn signed(&self) {
        self.signed.fetch_add(1, Relaxed);
        self.show();
    }

    /// A session begins, after others that went well.
    pub(crate) fn begin(&self) {
        self.before.iter().zip([&self.sent, &self.signed]).for_each(|(before, now)| before.store(now.load(Relaxed), Relaxed));
    }

    /// A new attempt at it begins.
    pub(crate) fn restart(&self) {
        self.before.iter().zip([&self.sent, &self.signed]).for_each(|(before, now)| now.store(before.load(Relaxed), Relaxed));
        self.show();
    }

    fn show(&self) {
        if self.bar.is_hidden() {
            return;
        }
        let (sent, signed) = (self.sent.load(Relaxed), self.signed.load(Relaxed));
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
