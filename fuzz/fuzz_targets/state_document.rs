//! A signing request with a hash state: what is taken means what another reader of JSON sees in it, and no document makes the hasher,
//! whose heap cannot grow, hold more than a bounded amount of memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use sigsh::hash_state::{HashAlgorithm, HashState};
use sigsh::hasher::{Document, MAX_DOCUMENT, MAX_FILE_NAME};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What a document may have in memory at once, in bytes; a block that grows counts twice.
const MOST: usize = 64 * 1024;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: it is the system's, and only counts. Growing is left to the trait: a new block, a copy, and the old one freed.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fuzz_target!(|line: &[u8]| {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let decoded = Document::decode(line);
    let peak = PEAK.load(Relaxed) - before;
    assert!(peak <= MOST, "{peak} bytes");
    let Ok(document) = decoded else { return };
    assert!(line.len() <= MAX_DOCUMENT && document.file_name.len() <= MAX_FILE_NAME);

    let length = if document.algorithm == HashAlgorithm::Sha256 { 104 } else { 208 };
    assert_eq!(document.state().len(), length);
    if let Ok(state) = HashState::import(document.algorithm, document.state(), u64::MAX) {
        state.export(|state| assert_eq!(state, document.state()));
    }

    // It has a limit to its depth, and none to what it holds.
    let Ok(value) = serde_json::from_slice::<Value>(line) else { return };
    let input = &value["required"]["input"];
    assert_eq!(input["content"], Value::from(document.state()));
    assert_eq!(input["type"], format!("sha2-0.11-SHA{}-state", if length == 104 { 256 } else { 512 }));
    assert_eq!(value["required"]["output"]["type"], "OpenPGPv4");
    assert!(value["version"].as_str().unwrap().starts_with("1."));
    assert!(value["optional"]["file-name"].as_str().unwrap_or_default().starts_with(&*document.file_name));
});
