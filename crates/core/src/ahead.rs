//! Telling the processor what will be read soon, so that it is in the cache by then.
//!
//! A lookup at an address that nobody knew beforehand waits for memory several times, one time after the other:
//! for the index, then for the ranges that it points to. Of many lookups that are known together, each can
//! wait while the others do. Nothing depends on what is told here: it changes when an answer is there, never
//! what it is.

#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "the instruction has no safe form"))]

/// Has an element of a slice brought to the cache; nothing where there is none, or on processors that are not
/// known here.
#[inline]
pub fn fetch<T>(slice: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(element) = slice.get(at) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86_64 has SSE, which the instruction is part of; it reads nothing that the program
        // could see and faults at no address, and this one is of a live element besides.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(element).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (slice, at);
}
