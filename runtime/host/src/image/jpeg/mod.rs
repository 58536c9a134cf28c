//! JPEG files (ITU T.81): baseline, extended and progressive Huffman coding with samples of 8 bits.
//!
//! A picture's bits are part of TensorFlow's answers, so every step that rounds does so as libjpeg does, which TensorFlow reads and
//! writes such files with: the transforms, the resampling of chroma, and the conversion of colours, all in fixed point. Files are
//! written byte by byte as libjpeg writes them.

mod codes;
mod colour;
mod encode;
mod huffman;
mod items;
mod markers;
mod planes;
mod progressive;
mod scan;
mod tables;
mod transform;
mod upsample;

use super::codec::{Picture, Samples};
use crate::limits::count_of;
use crate::{HostError, invalid};
pub(super) use encode::{MOST_XMP, Settings, encode};
use graphc_ir::Elem;
use markers::{Frame, Header};
use std::ops::Range;

type Fallible<T> = std::result::Result<T, HostError>;

/// How a file is to be read.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// 1 or 3, or 0 for as many as the file has, at most 3.
    pub channels: usize,
    /// 1, 2, 4 or 8: by how much the picture is made smaller.
    pub ratio: usize,
    /// Whether chroma of less resolution is interpolated rather than repeated.
    pub fancy_upscaling: bool,
    /// The accurate inverse transform rather than the fast one.
    pub accurate: bool,
    /// Takes the end of the data for the end of the picture, wherever it comes.
    pub recover: bool,
    /// The share of rows that a file must have; rows that it lacks are black.
    pub acceptable_fraction: f32,
    /// The part of the picture that is wanted.
    pub window: Option<Window>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            channels: 0,
            ratio: 1,
            fancy_upscaling: true,
            accurate: false,
            recover: false,
            acceptable_fraction: 1.0,
            window: None,
        }
    }
}

/// A part of a picture, in pixels of the reduced size.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub rows: Range<usize>,
    pub columns: Range<usize>,
}

/// Reads a picture.
///
/// # Errors
/// If the file has no picture, is damaged beyond what `options` accept, or uses what is not supported.
pub(super) fn decode(file: &[u8], options: &Options) -> Fallible<Picture> {
    // As libjpeg's reader does for TensorFlow: after its end a file goes on with ends of an image.
    const ENDS: [u8; 2] = [0xff, 0xd9];
    let recovered = options.recover.then_some(file.len());
    let longer = options.recover.then(|| [file, &ENDS.repeat(1 << 16)].concat());
    let file = longer.as_deref().unwrap_or(file);
    let mut header = Header::default();
    let at = header.read_to_scan(file, 0, None)?.ok_or_else(|| damaged("it ends too early"))?;
    let frame = header.frame.take().ok_or_else(|| invalid("invalid JPEG data: no frame"))?;
    let channels = if options.channels == 0 { frame.components.len().min(3) } else { options.channels };
    let spaces = colour::Conversion::of(&header, &frame, channels)?;
    let (height, width) = (frame.height.div_ceil(options.ratio), frame.width.div_ceil(options.ratio));
    count_of(Elem::U8, &[height, width, channels.max(frame.components.len())])?;
    let window = match &options.window {
        None => Window { rows: 0..height, columns: 0..width },
        Some(w) if w.rows.is_empty() || w.columns.is_empty() || w.rows.end > height || w.columns.end > width => {
            return Err(invalid(format!(
                "the window of rows {:?} and columns {:?} does not fit an image of {height} by {width} pixels",
                w.rows, w.columns
            )));
        }
        Some(w) => w.clone(),
    };
    let mut scans = scan::Coefficients::of(frame)?;
    let complete = scans.read_all(&mut header, file, at, recovered)?;
    let picture = planes::Planes::of(&scans, options)?;
    let rows = if complete { height } else { picture.rows_before(scans.rows_read()) };
    if (rows as f32) / (height as f32) < options.acceptable_fraction || rows == 0 {
        return Err(invalid(format!("the JPEG data ends too early, after {rows} of {height} rows")));
    }
    let samples = picture.pixels(&window, &spaces, rows);
    Picture::new(window.rows.len(), window.columns.len(), channels, Samples::Bytes(samples))
}

/// Height, width and number of components of the picture in a file.
///
/// # Errors
/// If the file has no picture.
pub(super) fn shape(file: &[u8]) -> Fallible<[usize; 3]> {
    let mut header = Header::default();
    header.read_to_scan(file, 0, None)?.ok_or_else(|| damaged("it ends too early"))?;
    let Frame { height, width, components, .. } = header.frame.ok_or_else(|| invalid("invalid JPEG data: no frame"))?;
    Ok([height, width, components.len()])
}

fn damaged(what: &str) -> HostError {
    invalid(format!("invalid JPEG data: {what}"))
}

#[cfg(test)]
mod tests;
