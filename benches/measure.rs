//! How benchmarks take their times.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs the candidates one after the other, again and again, so that a busy moment hits them all.
pub fn turns(count: usize, candidates: &mut [&mut dyn FnMut() -> Duration]) -> Vec<Vec<Duration>> {
    let mut times = vec![Vec::new(); candidates.len()];
    for turn in 0..=count {
        for (times, candidate) in times.iter_mut().zip(candidates.iter_mut()) {
            let time = candidate();
            // The first is for the caches.
            if turn > 0 {
                times.push(time);
            }
        }
    }
    times
}

pub fn run(command: &mut Command, input: &str) -> Duration {
    command.stdin(File::open(input).unwrap()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let began = Instant::now();
    let output = command.output().unwrap();
    let time = began.elapsed();
    assert!(output.status.success(), "{command:?}: {output:?}");
    time
}

pub fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

pub fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}
