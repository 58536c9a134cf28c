//! Pixels as TensorFlow has them, and files that lie.

use super::*;

static FILES: &[(&str, &[u8])] = &[
    ("quarter_chroma", include_bytes!("samples/quarter_chroma.jpg")),
    ("half_chroma_restarts", include_bytes!("samples/half_chroma_restarts.jpg")),
    ("full_chroma_progressive", include_bytes!("samples/full_chroma_progressive.jpg")),
    ("quarter_chroma_progressive", include_bytes!("samples/quarter_chroma_progressive.jpg")),
    ("grey", include_bytes!("samples/grey.jpg")),
    ("inks", include_bytes!("samples/inks.jpg")),
    ("tall_chroma", include_bytes!("samples/tall_chroma.jpg")),
];

/// File, channels, ratio, fancy upscaling, accurate transform, window (first row and column, rows, columns); shape and CRC-32C of the
/// pixels, from TensorFlow.
#[allow(clippy::type_complexity)]
static PIXELS: &[(&str, usize, usize, bool, bool, Option<[usize; 4]>, [usize; 3], u32)] = &[
    ("quarter_chroma", 0, 1, true, false, None, [19, 37, 3], 0x6a174a24),
    ("quarter_chroma", 1, 1, true, true, None, [19, 37, 1], 0x756459e5),
    ("quarter_chroma", 3, 1, false, true, None, [19, 37, 3], 0x6b7b7dff),
    ("quarter_chroma", 3, 2, true, false, None, [10, 19, 3], 0x332d1f0f),
    ("quarter_chroma", 3, 4, false, false, None, [5, 10, 3], 0x30cd5b17),
    ("quarter_chroma", 3, 8, true, false, None, [3, 5, 3], 0x7b9c3b38),
    ("quarter_chroma", 3, 1, true, false, Some([3, 16, 11, 18]), [11, 18, 3], 0x355865a0),
    ("quarter_chroma", 0, 2, true, false, Some([1, 9, 5, 6]), [5, 6, 3], 0xa0bc6bce),
    ("half_chroma_restarts", 0, 1, true, false, None, [19, 37, 3], 0xe34a0861),
    ("half_chroma_restarts", 1, 1, true, true, None, [19, 37, 1], 0x2be29b6b),
    ("half_chroma_restarts", 3, 1, false, true, None, [19, 37, 3], 0x34f06cf8),
    ("half_chroma_restarts", 3, 2, true, false, None, [10, 19, 3], 0x5a56c0ed),
    ("half_chroma_restarts", 3, 4, false, false, None, [5, 10, 3], 0x7012a52a),
    ("half_chroma_restarts", 3, 8, true, false, None, [3, 5, 3], 0xe6336af8),
    ("half_chroma_restarts", 3, 1, true, false, Some([3, 16, 11, 18]), [11, 18, 3], 0x7f1bb857),
    ("half_chroma_restarts", 0, 2, true, false, Some([1, 9, 5, 6]), [5, 6, 3], 0x80db6636),
    ("full_chroma_progressive", 0, 1, true, false, None, [19, 37, 3], 0x12f421f1),
    ("full_chroma_progressive", 1, 1, true, true, None, [19, 37, 1], 0xf4661509),
    ("full_chroma_progressive", 3, 1, false, true, None, [19, 37, 3], 0xe6998786),
    ("full_chroma_progressive", 3, 2, true, false, None, [10, 19, 3], 0xeb4c9df9),
    ("full_chroma_progressive", 3, 4, false, false, None, [5, 10, 3], 0x87814ff2),
    ("full_chroma_progressive", 3, 8, true, false, None, [3, 5, 3], 0xf5219adc),
    ("full_chroma_progressive", 3, 1, true, false, Some([3, 16, 11, 18]), [11, 18, 3], 0x98ce5a1f),
    ("full_chroma_progressive", 0, 2, true, false, Some([1, 9, 5, 6]), [5, 6, 3], 0xbf7cc8ea),
    ("quarter_chroma_progressive", 0, 1, true, false, None, [19, 37, 3], 0x502be35a),
    ("quarter_chroma_progressive", 1, 1, true, true, None, [19, 37, 1], 0x90d94133),
    ("quarter_chroma_progressive", 3, 1, false, true, None, [19, 37, 3], 0x3f4e3413),
    ("quarter_chroma_progressive", 3, 2, true, false, None, [10, 19, 3], 0xce5f78ee),
    ("quarter_chroma_progressive", 3, 4, false, false, None, [5, 10, 3], 0x35d6afa4),
    ("quarter_chroma_progressive", 3, 8, true, false, None, [3, 5, 3], 0x6ed162b7),
    ("quarter_chroma_progressive", 3, 1, true, false, Some([3, 16, 11, 18]), [11, 18, 3], 0xa09b1e06),
    ("quarter_chroma_progressive", 0, 2, true, false, Some([1, 9, 5, 6]), [5, 6, 3], 0xd85143a9),
    ("grey", 0, 1, true, false, None, [19, 37, 1], 0x0ac5f6c6),
    ("grey", 1, 1, true, true, None, [19, 37, 1], 0x85998988),
    ("grey", 3, 1, false, true, None, [19, 37, 3], 0x715c3d4f),
    ("grey", 3, 2, true, false, None, [10, 19, 3], 0x85331e25),
    ("grey", 3, 4, false, false, None, [5, 10, 3], 0xad1e03f1),
    ("grey", 3, 8, true, false, None, [3, 5, 3], 0xbc2a7ae4),
    ("grey", 3, 1, true, false, Some([3, 16, 11, 18]), [11, 18, 3], 0x23fe55f4),
    ("grey", 0, 2, true, false, Some([1, 9, 5, 6]), [5, 6, 1], 0x4f058648),
    ("inks", 0, 1, true, false, None, [19, 37, 3], 0xfcc9dfe0),
    ("inks", 3, 1, false, true, None, [19, 37, 3], 0xd1143651),
    ("inks", 3, 2, true, false, None, [10, 19, 3], 0x5a6ebf6c),
    ("inks", 3, 4, false, false, None, [5, 10, 3], 0x3745d453),
    ("inks", 3, 8, true, false, None, [3, 5, 3], 0x23db168b),
    ("inks", 3, 1, true, false, Some([3, 16, 11, 18]), [11, 18, 3], 0xc5936655),
    ("inks", 0, 2, true, false, Some([1, 9, 5, 6]), [5, 6, 3], 0x85892af5),
    ("tall_chroma", 0, 1, true, false, None, [19, 37, 3], 0xd884c00e),
    ("tall_chroma", 1, 1, true, true, None, [19, 37, 1], 0x2c461b6a),
    ("tall_chroma", 3, 1, false, true, None, [19, 37, 3], 0xdaec5a55),
    ("tall_chroma", 3, 2, true, false, None, [10, 19, 3], 0xf708a86f),
    ("tall_chroma", 3, 4, false, false, None, [5, 10, 3], 0x6b2dbca5),
    ("tall_chroma", 3, 8, true, false, None, [3, 5, 3], 0x288c7a99),
    ("tall_chroma", 3, 1, true, false, Some([3, 16, 11, 18]), [11, 18, 3], 0xe235000c),
    ("tall_chroma", 0, 2, true, false, Some([1, 9, 5, 6]), [5, 6, 3], 0x460a9754),
];

fn file(name: &str) -> &'static [u8] {
    FILES.iter().find(|f| f.0 == name).map(|f| f.1).expect("a name of the list")
}

#[test]
fn pixels_are_those_of_tensorflow() {
    for &(name, channels, ratio, fancy_upscaling, accurate, window, shape, sum) in PIXELS {
        let window = window.map(|[y, x, h, w]| Window { rows: y..y + h, columns: x..x + w });
        let options = Options { channels, ratio, fancy_upscaling, accurate, window, ..Options::default() };
        let p = decode(file(name), &options).expect(name);
        assert_eq!([p.height, p.width, p.channels], shape, "{name} {options:?}");
        assert_eq!(crc32c::crc32c(&p.bytes()), sum, "{name} {options:?}");
    }
}

#[test]
fn shapes_count_components() {
    assert_eq!(shape(file("grey")).expect("grey"), [19, 37, 1]);
    assert_eq!(shape(file("quarter_chroma_progressive")).expect("colour"), [19, 37, 3]);
    assert_eq!(shape(file("inks")).expect("inks"), [19, 37, 4]);
}

#[test]
fn colours_that_a_file_lacks_are_refused() {
    for (name, channels) in [("grey", 2), ("inks", 1), ("grey", 4)] {
        assert!(decode(file(name), &Options { channels, ..Options::default() }).is_err(), "{name} with {channels}");
    }
}

#[test]
fn a_window_lies_in_the_picture() {
    for (rows, columns) in [(0..20, 0..37), (0..19, 0..38), (3..3, 0..1), (0..1, 5..5), (0..usize::MAX, 0..1)] {
        let options = Options { window: Some(Window { rows, columns }), ..Options::default() };
        assert!(decode(file("grey"), &options).is_err(), "{options:?}");
    }
}

#[test]
fn a_file_cut_short_is_accepted_by_its_share_of_rows() {
    let whole = file("half_chroma_restarts");
    let cut = &whole[..whole.len() - 40];
    assert!(decode(cut, &Options::default()).is_err());
    let part = decode(cut, &Options { acceptable_fraction: 0.25, ..Options::default() }).expect("enough rows").bytes();
    let all = decode(whole, &Options::default()).expect("the whole").bytes();
    assert_eq!(part[..8 * 37 * 3], all[..8 * 37 * 3]);
    assert!(part[16 * 37 * 3..].iter().all(|&b| b == 0));
    assert!(decode(cut, &Options { recover: true, ..Options::default() }).is_ok());
}

/// Whatever a file says, it is read or refused.
#[test]
fn damaged_files_do_no_harm() {
    let try_all = |file: &[u8]| {
        for recover in [false, true] {
            let _ = decode(
                file,
                &Options { recover, acceptable_fraction: 0.0, ratio: if recover { 2 } else { 1 }, ..Options::default() },
            );
        }
        let _ = shape(file);
    };
    for (_, file) in FILES {
        for n in (0..file.len()).step_by(3) {
            try_all(&file[..n]);
        }
        let mut random = 1u32;
        for at in 2..file.len() {
            random = random.wrapping_mul(1664525).wrapping_add(1013904223);
            // A picture of tens of thousands of lines takes long, and shows nothing new.
            let size = file.windows(2).position(|m| m[0] == 0xff && matches!(m[1], 0xc0 | 0xc2)).map_or(0, |p| p + 5);
            if (size..size + 4).contains(&at) {
                continue;
            }
            let mut other = file.to_vec();
            other[at] ^= (random >> 24) as u8 | 1;
            try_all(&other);
        }
    }
}

/// Hashes of the files that TensorFlow writes.
#[test]
fn files_have_the_bytes_that_libjpeg_writes() {
    let pixels = |channels| -> Vec<u8> {
        let at = |y: u32, x: u32, c: u32| (x * x * 7 + y * 13 + c * 31 + x * y * 3) as u8;
        (0..19 * 37).flat_map(|k| (0..channels).map(move |c| at(k / 37, k % 37, c))).collect()
    };
    let hash = |file: &[u8]| file.iter().fold(0xcbf29ce484222325u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100000001b3));
    let plain = Settings { quality: 90, halved: true, optimised: false, progressive: false, density: (1, 300, 300), xmp: b"" };
    let cases = [
        (plain.clone(), 3, 0xd8fe9eae13962180),
        (Settings { halved: false, optimised: true, ..plain.clone() }, 3, 0x43a6ade810333b6e),
        (Settings { progressive: true, ..plain.clone() }, 3, 0x63efa4dec7879b3b),
        (Settings { progressive: true, ..plain.clone() }, 1, 0xab94c0d52aee3490),
    ];
    for (settings, channels, expected) in cases {
        let file = encode(&pixels(channels as u32), 37, 19, channels, &settings);
        assert_eq!(hash(&file), expected, "{settings:?}");
        assert_eq!(shape(&file).expect("its shape"), [19, 37, channels]);
    }
    let file = encode(&pixels(1), 37, 19, 1, &Settings { xmp: b"<x/>", ..plain });
    assert!(file[20..].starts_with(b"\xff\xe1\0\x23http://ns.adobe.com/xap/1.0/\0<x/>"));
    assert!(decode(&file, &Options::default()).is_ok());
}
