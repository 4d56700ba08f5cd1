//! The allocator where the C library is musl. Musl's own gives back what is freed, so that nothing could be reserved for a process that may not ask
//! the system for memory any more; and it is slow. This one keeps all that it ever got.

// By musl as a shared library the loader makes system calls of its own, of which the tables say nothing.
#[cfg(not(target_feature = "crt-static"))]
compile_error!("with musl sigsh is linked statically: sh sshd/static.sh, or RUSTFLAGS=-Ctarget-feature=+crt-static");

use dlmalloc::{Allocator, Dlmalloc};
use std::alloc::{GlobalAlloc, Layout};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How much is asked of the system at once, in bytes: most processes never ask again. What is not written to takes no memory.
const PIECE: usize = 1 << 20;

#[global_allocator]
static MEMORY: Memory = Memory(Mutex::new(
    const {
        let mut memory = Dlmalloc::new_with_allocator(Pages);
        memory.set_granularity(PIECE);
        memory
    },
));

struct Memory(Mutex<Dlmalloc<Pages>>);

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Dlmalloc<Pages>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// SAFETY: each call is passed on to an allocator with the same contract, and by one thread at a time. None of them unwinds.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: any size and alignment of a layout will do.
        unsafe { self.lock().malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { self.lock().calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller vouches that the pointer came from here, with this layout.
        unsafe { self.lock().free(pointer, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the same.
        unsafe { self.lock().realloc(pointer, layout.size(), layout.align(), size) }
    }
}

/// Memory of the system, which is never given back.
struct Pages;

// SAFETY: what `alloc` returns is fresh memory of that size, which nobody else knows of; and all else is declined.
unsafe impl Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a private mapping at a place of the kernel's choice touches nothing that is there.
        match unsafe { libc::mmap(ptr::null_mut(), size, access, kind, -1, 0) } {
            libc::MAP_FAILED => (ptr::null_mut(), 0, 0),
            pages => (pages.cast(), size, 0),
        }
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        4096
    }
}
