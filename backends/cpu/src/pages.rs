//! Memory in huge pages while the system has them at hand.
//!
//! Clearing a huge page that lies ready takes a fraction of the time of its 512 small ones; but where the system has to move others'
//! memory to make one, or a host has to give it to a virtual machine first, it takes many times as long. So huge pages are asked for one
//! by one, as memory is first written, and not any more after some were slow. What then lies in small pages can be gathered by the system
//! in the background: [`gather`].

use memmap2::{Advice, MmapMut};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Bytes of a huge page.
const HUGE: usize = 2 << 20;

/// How long a huge page may take to come: about as long as so many small ones.
const PATIENCE: Duration = Duration::from_micros(1000);

/// Zeroed memory, aligned to a huge page if it has room for one.
///
/// # Errors
/// If the system has no such memory.
pub fn map(len: usize) -> std::io::Result<(MmapMut, usize)> {
    let spare = if len >= HUGE { HUGE } else { 0 };
    let whole = len.checked_add(spare).ok_or(std::io::ErrorKind::OutOfMemory)?;
    let map = MmapMut::map_anon(whole.max(1))?;
    let skip = if spare > 0 { map.as_ptr().align_offset(HUGE).min(spare) } else { 0 };
    Ok((map, skip))
}

/// Lets the system put the memory into huge pages in its own time. For memory that has been written.
pub fn gather(map: &MmapMut) {
    // A hint; without huge pages everything works, only slower.
    let _ = map.advise(Advice::HugePage);
}

/// Which huge pages of some memory were asked for. Shared by the threads that fill it.
pub struct Pages<'a> {
    map: &'a MmapMut,
    /// Where the memory begins in `map`.
    from: usize,
    asked: Vec<AtomicBool>,
    /// How many to pass over before the next is asked for, and how many when that one is slow.
    skip: AtomicUsize,
    penalty: AtomicUsize,
}

impl<'a> Pages<'a> {
    /// For `len` bytes from `from`, as [`map`] gave it, which nobody has written yet.
    pub fn new(map: &'a MmapMut, from: usize, len: usize) -> Pages<'a> {
        let asked = (0..len / HUGE).map(|_| AtomicBool::new(false)).collect();
        Pages { map, from, asked, skip: AtomicUsize::new(0), penalty: AtomicUsize::new(16) }
    }

    /// Asks for the huge pages under `range`, which is about to be written. `touch` writes one byte of it, whose position it is given.
    pub fn prepare(&self, range: Range<usize>, touch: &mut dyn FnMut(usize)) {
        if range.is_empty() {
            return;
        }
        for k in range.start / HUGE..=(range.end - 1) / HUGE {
            if self.asked.get(k).is_none_or(|a| a.swap(true, Relaxed)) {
                continue;
            }
            if self.skip.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)).is_ok() {
                continue;
            }
            let start = Instant::now();
            let _ = self.map.advise_range(Advice::HugePage, self.from + k * HUGE, HUGE);
            touch(range.start.max(k * HUGE));
            if start.elapsed() > PATIENCE {
                self.skip.store(self.penalty.fetch_update(Relaxed, Relaxed, |n| n.checked_mul(4)).unwrap_or(usize::MAX), Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_page_is_asked_for_at_most_once_and_touched_inside_the_range() {
        let len = 3 * HUGE + 5000;
        let (map, from) = map(len).unwrap();
        assert_eq!((map.as_ptr() as usize + from) % HUGE, 0);
        assert!(map.len() >= from + len);
        let pages = Pages::new(&map, from, len);
        let mut touched = Vec::new();
        for range in [10..20, 30..HUGE + 1, HUGE..3 * HUGE, 2 * HUGE..len, 7..7] {
            pages.prepare(range.clone(), &mut |at| {
                assert!(range.contains(&at));
                touched.push(at / HUGE);
            });
        }
        // Slow pages make others be passed over; none comes twice, and what is less than a page at the end never.
        assert!(touched.first() == Some(&0) && touched.is_sorted_by(|a, b| a < b) && touched.iter().all(|&k| k < 3));
        gather(&map);
    }
}
