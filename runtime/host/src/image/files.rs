//! Ops that read and write image files.

use super::codec::{Format, Picture, bmp, gif, png, webp};
use super::jpeg;
use crate::elements::natural;
use crate::{Call, HostError, Result, Value, internal, invalid, strings_of, tensor_of};
use graphc_ir::{Elem, Tensor};

type Fallible<T> = std::result::Result<T, HostError>;

/// The file in operand 0, a scalar.
fn contents<'a>(call: &'a Call) -> Fallible<&'a [u8]> {
    let t = call.tensor(0)?;
    if t.rank() == 0 { call.string(0) } else { Err(invalid(format!("the file must be a scalar, not of shape {:?}", t.shape()))) }
}

fn channels(call: &Call) -> Fallible<usize> {
    match call.attrs.int("channels").unwrap_or(0) {
        c @ (0 | 1 | 3 | 4) => Ok(c as usize),
        c => Err(invalid(format!("images have 0, 1, 3 or 4 channels, not {c}"))),
    }
}

/// A picture as a tensor of the type that the node says. `batch` goes before its dimensions.
fn tensor(call: &Call, pictures: &[Picture], batch: Option<usize>) -> Fallible<Tensor> {
    let Some(first) = pictures.first() else { return Err(invalid("there are no pictures")) };
    let mut shape: Vec<usize> = batch.into_iter().collect();
    shape.extend([first.height, first.width, first.channels]);
    let bytes = || pictures.iter().flat_map(Picture::bytes);
    match call.attrs.elem("dtype").unwrap_or(Elem::U8) {
        Elem::U8 => tensor_of(&shape, &bytes().collect::<Vec<_>>()),
        // Files of bytes alone are not stretched to the whole range.
        Elem::U16 if Format::of(contents(call)?) != Some(Format::Png) => {
            tensor_of(&shape, &bytes().map(|b| u16::from(b) << 8).collect::<Vec<_>>())
        }
        Elem::U16 => tensor_of(&shape, &pictures.iter().flat_map(Picture::words).collect::<Vec<_>>()),
        Elem::F32 => {
            let share = |p: &Picture| p.words().into_iter().map(|w| f32::from(w) / 65535.0).collect::<Vec<_>>();
            tensor_of(&shape, &pictures.iter().flat_map(share).collect::<Vec<_>>())
        }
        e => Err(invalid(format!("images are not read as elements of type {e}"))),
    }
}

/// How a node says that JPEG files are to be read.
fn jpeg_options(call: &Call, channels: usize) -> Fallible<jpeg::Options> {
    let ratio = match call.attrs.int("ratio").unwrap_or(1) {
        ratio @ (1 | 2 | 4 | 8) => ratio as usize,
        ratio => return Err(invalid(format!("the ratio must be 1, 2, 4 or 8, and is {ratio}"))),
    };
    if channels == 4 {
        return Err(invalid("JPEG images have no alpha channel"));
    }
    Ok(jpeg::Options {
        channels,
        ratio,
        fancy_upscaling: call.attrs.bool("fancy_upscaling").unwrap_or(true),
        accurate: call.attrs.text("dct_method").is_ok_and(|m| m == "INTEGER_ACCURATE"),
        recover: call.attrs.bool("try_recover_truncated").unwrap_or(false),
        acceptable_fraction: call.attrs.float("acceptable_fraction").unwrap_or(1.0),
        window: None,
    })
}

/// Reads a picture of any format but animations.
fn read_still(call: &Call, file: &[u8], channels: usize) -> Fallible<Picture> {
    match Format::of(file) {
        Some(Format::Jpeg) => jpeg::decode(file, &jpeg_options(call, channels)?),
        Some(Format::Png) => Ok(png(file)?.with_channels(channels)),
        Some(Format::Bmp) => bmp(file, channels),
        Some(Format::WebP) => Ok(webp(file)?.with_channels(channels)),
        Some(Format::Gif) => {
            if !matches!(channels, 0 | 3) {
                return Err(invalid("GIF images have 3 channels"));
            }
            let mut frames = gif(file, 2)?;
            match (frames.pop(), frames.is_empty()) {
                (Some(frame), true) => Ok(frame),
                _ => Err(invalid("animated GIF images are read by DecodeGif or DecodeImage only")),
            }
        }
        None => Err(invalid("unknown format of an image file; it must be JPEG, PNG, GIF, BMP or WebP")),
    }
}

/// DecodeJpeg and DecodePng, which read each other's files too.
pub(super) fn decode(call: &Call) -> Result {
    let channels = channels(call)?;
    let file = contents(call)?;
    if Format::of(file) == Some(Format::Bmp) {
        return Err(invalid(format!("{} does not read BMP files; DecodeBmp and DecodeImage do", call.op)));
    }
    Ok(vec![tensor(call, &[read_still(call, file, channels)?], None)?.into()])
}

pub(super) fn decode_bmp(call: &Call) -> Result {
    let channels = channels(call)?;
    let file = contents(call)?;
    if Format::of(file) != Some(Format::Bmp) {
        return Err(invalid("not a BMP file"));
    }
    Ok(vec![tensor(call, &[bmp(file, channels)?], None)?.into()])
}

pub(super) fn decode_webp(call: &Call) -> Result {
    let channels = channels(call)?;
    let file = contents(call)?;
    if Format::of(file) != Some(Format::WebP) {
        return Err(invalid("not a WebP file"));
    }
    let picture = webp(file)?.with_channels(channels);
    Ok(vec![tensor(call, &[picture], Some(1))?.into()])
}

pub(super) fn decode_gif(call: &Call) -> Result {
    let file = contents(call)?;
    if Format::of(file) == Some(Format::Gif) {
        let frames = gif(file, usize::MAX)?;
        return Ok(vec![tensor(call, &frames, Some(frames.len()))?.into()]);
    }
    Ok(vec![tensor(call, &[read_still(call, file, 3)?], Some(1))?.into()])
}

pub(super) fn decode_image(call: &Call) -> Result {
    let channels = channels(call)?;
    let file = contents(call)?;
    if Format::of(file) == Some(Format::Gif) {
        if !matches!(channels, 0 | 3) {
            return Err(invalid("GIF images have 3 channels"));
        }
        if call.attrs.bool("expand_animations").unwrap_or(true) {
            let frames = gif(file, usize::MAX)?;
            return Ok(vec![tensor(call, &frames, Some(frames.len()))?.into()]);
        }
        return Ok(vec![tensor(call, &gif(file, 1)?, None)?.into()]);
    }
    // WebP files may be animations too, and are read as one of a frame.
    let batch = (Format::of(file) == Some(Format::WebP)).then_some(1);
    Ok(vec![tensor(call, &[read_still(call, file, channels)?], batch)?.into()])
}

pub(super) fn decode_and_crop_jpeg(call: &Call) -> Result {
    let channels = channels(call)?;
    let file = contents(call)?;
    if Format::of(file) != Some(Format::Jpeg) {
        return Err(invalid("not a JPEG file"));
    }
    let window = call.ints(1)?;
    let (1, &[y, x, h, w]) = (call.tensor(1)?.rank(), &*window) else {
        return Err(invalid(format!("a window must be four numbers, unlike {window:?}")));
    };
    let (y, x, h, w) = (natural(y, "a window")?, natural(x, "a window")?, natural(h, "a window")?, natural(w, "a window")?);
    let window = jpeg::Window { rows: y..y.saturating_add(h), columns: x..x.saturating_add(w) };
    let options = jpeg::Options { window: Some(window), ..jpeg_options(call, channels)? };
    Ok(vec![tensor(call, &[jpeg::decode(file, &options)?], None)?.into()])
}

pub(super) fn extract_jpeg_shape(call: &Call) -> Result {
    let [height, width, channels] = jpeg::shape(contents(call)?)?;
    let elem = call.attrs.elem("output_type").unwrap_or(Elem::I32);
    let shape = [height, width, channels].map(|d| d as i64);
    Ok(vec![crate::ints_of(elem, &[3], &shape)?.into()])
}

fn file(bytes: Vec<u8>) -> Fallible<Value> {
    Ok(strings_of(&[], vec![bytes.into_boxed_slice()])?.into())
}

pub(super) fn encode_png(call: &Call) -> Result {
    let image = call.tensor(0)?;
    let &[.., height, width, channels] = image.shape() else {
        return Err(invalid(format!("images must be of rank 3 or more, not of shape {:?}", image.shape())));
    };
    let colour = match channels {
        1 => ::png::ColorType::Grayscale,
        2 => ::png::ColorType::GrayscaleAlpha,
        3 => ::png::ColorType::Rgb,
        4 => ::png::ColorType::Rgba,
        c => return Err(invalid(format!("images have 1, 2, 3 or 4 channels, not {c}"))),
    };
    let (Ok(w), Ok(h)) = (u32::try_from(width), u32::try_from(height)) else { return Err(invalid("an image is too large")) };
    let compression = call.attrs.int("compression").unwrap_or(-1);
    if !(-1..=9).contains(&compression) {
        return Err(invalid(format!("the compression lies between -1 and 9, unlike {compression}")));
    }
    let (depth, bytes) = match image.elem() {
        Elem::U8 => (::png::BitDepth::Eight, image.bytes().to_vec()),
        Elem::U16 => (::png::BitDepth::Sixteen, call.slice::<u16>(0)?.iter().flat_map(|v| v.to_be_bytes()).collect()),
        e => return Err(invalid(format!("PNG images are of type u8 or u16, not {e}"))),
    };
    let size = height * width * channels * image.elem().size();
    if size == 0 {
        return Err(internal(format!("an image of shape {:?} has no pixels", image.shape())));
    }
    let wrong = |e: ::png::EncodingError| invalid(format!("an image cannot be written: {e}"));
    let mut files = Vec::new();
    for picture in bytes.chunks_exact(size) {
        let mut out = Vec::new();
        let mut encoder = ::png::Encoder::new(&mut out, w, h);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        let mut writer = encoder.write_header().map_err(wrong)?;
        writer.write_image_data(picture).map_err(wrong)?;
        writer.finish().map_err(wrong)?;
        files.push(out.into_boxed_slice());
    }
    Ok(vec![strings_of(&image.shape()[..image.rank() - 3], files)?.into()])
}

/// The longest side that libjpeg writes.
const MOST_PIXELS: usize = 65500;

/// Writes the image in operand 0 as a JPEG file.
fn write_jpeg(call: &Call, quality: i64) -> Result {
    let image = call.tensor(0)?;
    let &[height, width, channels] = image.shape() else {
        return Err(invalid(format!("images must be of rank 3, not of shape {:?}", image.shape())));
    };
    if image.elem() != Elem::U8 {
        return Err(invalid(format!("JPEG images are of type u8, not {}", image.elem())));
    }
    let format = call.attrs.text("format").unwrap_or_default();
    if !matches!((&*format, channels), ("", 1 | 3) | ("grayscale", 1) | ("rgb", 3)) {
        return Err(invalid(format!("an image of {channels} channels cannot be written in the format {format:?}")));
    }
    let quality = u8::try_from(quality)
        .ok()
        .filter(|q| *q <= 100)
        .ok_or_else(|| invalid(format!("quality must lie between 0 and 100, and is {quality}")))?;
    if width > MOST_PIXELS || height > MOST_PIXELS {
        return Err(invalid("an image is too large for JPEG"));
    }
    if width == 0 || height == 0 {
        return Err(internal(format!("an image of shape {:?} has no pixels", image.shape())));
    }
    let flag = |name: &str, default| call.attrs.bool(name).unwrap_or(default);
    let density = |name: &str| {
        let v = call.attrs.int(name).unwrap_or(300);
        u16::try_from(v).map_err(|_| invalid(format!("{name} must be a number of 16 bits, and is {v}")))
    };
    let unit = call.attrs.text("density_unit").unwrap_or_default();
    let xmp = call.attrs.bytes("xmp_metadata").unwrap_or_default();
    if xmp.len() > jpeg::MOST_XMP {
        return Err(invalid(format!("xmp_metadata of {} bytes does not fit a JPEG file", xmp.len())));
    }
    let settings = jpeg::Settings {
        quality,
        halved: flag("chroma_downsampling", true),
        optimised: flag("optimize_size", false),
        progressive: flag("progressive", false),
        density: (if unit == "cm" { 2 } else { 1 }, density("x_density")?, density("y_density")?),
        xmp: &xmp,
    };
    Ok(vec![file(jpeg::encode(image.bytes(), width, height, channels, &settings))?])
}

pub(super) fn encode_jpeg(call: &Call) -> Result {
    write_jpeg(call, call.attrs.int("quality").unwrap_or(95))
}

pub(super) fn encode_jpeg_of_quality(call: &Call) -> Result {
    if call.tensor(1)?.rank() != 0 {
        return Err(invalid(format!("quality must be a scalar, not of shape {:?}", call.tensor(1)?.shape())));
    }
    write_jpeg(call, call.int(1)?)
}
