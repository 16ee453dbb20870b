//! The fuzz targets' own bookkeeping.

use super::*;

#[test]
fn what_a_thread_holds_is_counted() {
    let most = allocation::most_held(|| {
        drop(vec![0_u8; 1 << 20]);
        let mut grown = vec![0_u8; 1 << 10];
        grown.resize(1 << 19, 1);
    });
    assert!((1 << 20..1 << 21).contains(&most), "{most}");
    assert_eq!(allocation::most_held(|| ()), 0);
}

#[test]
#[should_panic(expected = "bytes held for 4 bytes")]
fn a_decoder_that_believes_a_length_is_found() {
    fn believes(data: &[u8]) {
        let length = data.first_chunk().map_or(0, |head| u32::from_be_bytes(*head));
        std::hint::black_box(vec![0_u8; length as usize]);
    }
    Target { name: "believes", body: believes, base: 1 << 10, each: 1 << 4 }.run(&[0, 1, 0, 0]);
}
