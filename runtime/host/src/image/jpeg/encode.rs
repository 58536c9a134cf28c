//! Writes JPEG files, with the bytes that libjpeg writes: its conversion of colours, its means of chroma, the accurate
//! transform, and its way to fill blocks that lie beyond the picture.

use super::codes::{Bits, Codes};
use super::items::Scan;
use super::markers::ZIGZAG;
use super::tables;
use super::transform::{descale, fixed};

/// The most bytes of XMP metadata: what a segment holds beside its name.
pub(in super::super) const MOST_XMP: usize = 65533 - XMP_NAME.len();

const XMP_NAME: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// How a file is to be written.
#[derive(Clone, Debug)]
pub(in super::super) struct Settings<'a> {
    /// From 0 to 100.
    pub quality: u8,
    /// Whether chroma has half the resolution in both directions.
    pub halved: bool,
    /// Whether the Huffman tables are those that suit the picture best.
    pub optimised: bool,
    /// Whether a rough picture comes first.
    pub progressive: bool,
    /// The unit of the density (1 is inches, 2 centimetres), and the pixels a unit across and down.
    pub density: (u8, u16, u16),
    /// Goes into the file if it is not empty.
    pub xmp: &'a [u8],
}

pub(super) type Block = [i16; 64];

/// The file of a picture of 1 or 3 channels, neither side of which is 0 or more than 65535.
pub(in super::super) fn encode(pixels: &[u8], width: usize, height: usize, channels: usize, settings: &Settings) -> Vec<u8> {
    let steps = tables::STEPS.map(|t| scaled(&t, settings.quality));
    let halved = settings.halved && channels == 3;
    let factor = if halved { 2 } else { 1 };
    let planes = planes(pixels, width, height, channels);
    let units = (width.div_ceil(8 * factor), height.div_ceil(8 * factor));
    let components: Vec<Component> = planes
        .iter()
        .enumerate()
        .map(|(c, plane)| match (c, halved) {
            (0, _) => Component::of(plane, (width, height), &steps[0], factor, units, false),
            (_, false) => Component::of(plane, (width, height), &steps[1], 1, units, true),
            (_, true) => {
                // Beyond the right edge means are of what is at the edge, not what is at the edge of the means.
                let (w, h) = (8 * units.0, height.div_ceil(2));
                Component::of(&halve(plane, width, height, w), (w, h), &steps[1], 1, units, true)
            }
        })
        .collect();
    let mut out = vec![0xff, 0xd8];
    let (unit, across, down) = settings.density;
    let density = [across.to_be_bytes(), down.to_be_bytes()].concat();
    segment(&mut out, 0xe0, &[b"JFIF\0\x01\x01", &[unit], &density[..], &[0, 0]]);
    if !settings.xmp.is_empty() {
        segment(&mut out, 0xe1, &[XMP_NAME, settings.xmp]);
    }
    for (which, steps) in (0..channels.min(2) as u8).zip(&steps) {
        segment(&mut out, 0xdb, &[&[which], &ZIGZAG.map(|at| steps[usize::from(at)] as u8)]);
    }
    let (h, w) = ((height as u16).to_be_bytes(), (width as u16).to_be_bytes());
    let frame = components.iter().zip(1..).flat_map(|(c, id): (_, u8)| [id, 0x11 * c.factor as u8, c.table() as u8]);
    let kind = if settings.progressive { 0xc2 } else { 0xc0 };
    segment(&mut out, kind, &[&[8], &h, &w, &[channels as u8], &frame.collect::<Vec<_>>()]);
    let scans = if settings.progressive { Scan::progressive(channels) } else { vec![Scan::whole(channels)] };
    for scan in scans {
        write_scan(&mut out, &scan, &components, units, settings.optimised || settings.progressive);
    }
    out.extend([0xff, 0xd9]);
    out
}

fn write_scan(out: &mut Vec<u8>, scan: &Scan, components: &[Component], units: (usize, usize), optimised: bool) {
    let items = scan.items(components, units);
    let mut coders = [[[(0, 0); 256]; 2]; 2];
    for (ac, table) in scan.tables(components) {
        let codes = if optimised {
            Codes::best(items.iter().filter_map(|i| i.symbol).filter(|s| (s.0, s.1) == (ac, table)).map(|s| s.2))
        } else {
            let (counts, symbols) = if ac { tables::AC[table] } else { tables::DC[table] };
            Codes { counts, symbols: symbols.to_vec() }
        };
        segment(out, 0xc4, &[&[(u8::from(ac) << 4) | table as u8], &codes.counts, &codes.symbols]);
        coders[usize::from(ac)][table] = codes.by_symbol();
    }
    let uses = |c: usize| {
        let table = components[c].table() as u8;
        let dc = if scan.first == 0 && scan.high == 0 { table << 4 } else { 0 };
        [c as u8 + 1, dc | if scan.last > 0 { table } else { 0 }]
    };
    let which: Vec<u8> = scan.components.iter().flat_map(|&c| uses(c)).collect();
    let range = [scan.first as u8, scan.last as u8, ((scan.high << 4) | scan.low) as u8];
    segment(out, 0xda, &[&[scan.components.len() as u8], &which, &range]);
    let mut bits = Bits::new(out);
    for item in &items {
        if let Some((ac, table, symbol)) = item.symbol {
            let (code, length) = coders[usize::from(ac)][table][usize::from(symbol)];
            bits.put(code, length);
        }
        bits.put(item.extra.into(), item.count);
    }
    bits.put(0x7f, 7);
}

fn segment(out: &mut Vec<u8>, marker: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|p| p.len()).sum();
    out.extend([0xff, marker]);
    out.extend((length as u16 + 2).to_be_bytes());
    out.extend(parts.concat());
}

/// Quantisation steps for a quality; those of quality 50 are `base`.
fn scaled(base: &[u16; 64], quality: u8) -> [u16; 64] {
    let quality = u32::from(quality).clamp(1, 100);
    let percent = if quality < 50 { 5000 / quality } else { 200 - 2 * quality };
    base.map(|s| ((u32::from(s) * percent + 50) / 100).clamp(1, 255) as u16)
}

/// Luminance and chrominance, in fixed point of 16 bits.
fn planes(pixels: &[u8], width: usize, height: usize, channels: usize) -> Vec<Vec<u8>> {
    if channels == 1 {
        return vec![pixels[..width * height].to_vec()];
    }
    // Rounded to nearest, but halves of chroma down.
    let rows = [
        ([19595, 38470, 7471], 1 << 15),
        ([-11059, -21709, 32768], (128 << 16) + (1 << 15) - 1),
        ([32768, -27439, -5329], (128 << 16) + (1 << 15) - 1),
    ];
    rows.iter()
        .map(|(by, start)| {
            let of = |p: &[u8]| by.iter().zip(p).fold(*start, |s: i32, (f, &x)| s + f * i32::from(x)) >> 16;
            pixels.chunks_exact(3).map(|p| of(p) as u8).collect()
        })
        .collect()
}

/// Rows of `columns` means of squares of four. Their rounding alternates from column to column; beyond the edges lies what is at the
/// edges.
fn halve(plane: &[u8], width: usize, height: usize, columns: usize) -> Vec<u8> {
    let at = |x: usize, y: usize| u16::from(plane[y.min(height - 1) * width + x.min(width - 1)]);
    let mut out = Vec::new();
    for y in 0..height.div_ceil(2) {
        for x in 0..columns {
            let sum = at(2 * x, 2 * y) + at(2 * x + 1, 2 * y) + at(2 * x, 2 * y + 1) + at(2 * x + 1, 2 * y + 1);
            out.push(((sum + 1 + (x as u16 & 1)) >> 2) as u8);
        }
    }
    out
}

/// The quantised blocks of a component, row by row, with those that lie beyond the picture.
pub(super) struct Component {
    pub blocks: Vec<Block>,
    /// Blocks of a row.
    pub across: usize,
    /// Columns and rows of blocks that have a part of the picture.
    pub inside: (usize, usize),
    /// Blocks of a coding unit in each direction.
    pub factor: usize,
    chroma: bool,
}

impl Component {
    fn of(
        plane: &[u8],
        (width, height): (usize, usize),
        steps: &[u16; 64],
        factor: usize,
        units: (usize, usize),
        chroma: bool,
    ) -> Component {
        let (across, down) = (units.0 * factor, units.1 * factor);
        let inside = (width.div_ceil(8), height.div_ceil(8));
        let mut blocks: Vec<Block> = Vec::with_capacity(across * down);
        for y in 0..down {
            for x in 0..across {
                let mut block = [0; 64];
                if x < inside.0 && y < inside.1 {
                    for (k, v) in block.iter_mut().enumerate() {
                        let (row, column) = ((8 * y + k / 8).min(height - 1), (8 * x + k % 8).min(width - 1));
                        *v = i16::from(plane[row * width + column]) - 128;
                    }
                    block = quantised(&transform(&block), steps);
                } else if y < inside.1 {
                    block[0] = blocks[y * across + x - 1][0];
                } else {
                    // The last block above, of the same coding unit.
                    block[0] = blocks[(y - 1) * across + x / factor * factor + factor - 1][0];
                }
                blocks.push(block);
            }
        }
        Component { blocks, across, inside, factor, chroma }
    }

    /// Its tables: 0 or 1.
    pub fn table(&self) -> usize {
        self.chroma.into()
    }
}

/// Divided by eight times the steps, to nearest, halves away from zero.
fn quantised(v: &[i32; 64], steps: &[u16; 64]) -> Block {
    std::array::from_fn(|k| {
        let step = 8 * i32::from(steps[k]);
        let size = (v[k].abs() + step / 2) / step;
        (if v[k] < 0 { -size } else { size }) as i16
    })
}

/// Eight times the cosine transform: Loeffler, Ligtenberg and Moschytz's, with constants of 13 bits.
fn transform(block: &Block) -> [i32; 64] {
    let mut v = block.map(i32::from);
    for row in v.chunks_exact_mut(8) {
        let line = line(std::array::from_fn(|k| row[k]));
        for (k, v) in row.iter_mut().enumerate() {
            // Two more bits.
            *v = descale(line[k], 11);
        }
    }
    for column in 0..8 {
        let line = line(std::array::from_fn(|k| v[8 * k + column]));
        for (k, value) in line.into_iter().enumerate() {
            v[8 * k + column] = descale(value, 15);
        }
    }
    v
}

/// One dimension of the transform, with 13 more bits.
fn line(v: [i32; 8]) -> [i32; 8] {
    let sum: [i32; 4] = std::array::from_fn(|k| v[k] + v[7 - k]);
    let [d, c, b, a]: [i32; 4] = std::array::from_fn(|k| v[k] - v[7 - k]);
    let (p, q, r, s) = (sum[0] + sum[3], sum[1] + sum[2], sum[1] - sum[2], sum[0] - sum[3]);
    let shared = (r + s) * fixed(0.541196100);
    let both = (a + b + c + d) * fixed(1.175875602);
    let first = (a + d) * -fixed(0.899976223);
    let second = (b + c) * -fixed(2.562915447);
    let third = both - (a + c) * fixed(1.961570560);
    let fourth = both - (b + d) * fixed(0.390180644);
    [
        (p + q) << 13,
        d * fixed(1.501321110) + first + fourth,
        shared + s * fixed(0.765366865),
        c * fixed(3.072711026) + second + third,
        (p - q) << 13,
        b * fixed(2.053119869) + second + fourth,
        shared - r * fixed(1.847759065),
        a * fixed(0.298631336) + first + third,
    ]
}
