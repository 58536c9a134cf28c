//! Images: files, resizing, cropping, colours, boxes.

mod boxes;
mod codec;
mod colour;
mod crop;
mod files;
mod jpeg;
mod patches;
pub(crate) mod resize;
mod scale;
mod suppress;

use crate::dense::reals;
use crate::{Call, HostError, Table, invalid};

pub(crate) const TABLE: Table = &[
    ("DecodeJpeg", files::decode),
    ("DecodePng", files::decode),
    ("DecodeBmp", files::decode_bmp),
    ("DecodeGif", files::decode_gif),
    ("DecodeWebP", files::decode_webp),
    ("DecodeImage", files::decode_image),
    ("DecodeAndCropJpeg", files::decode_and_crop_jpeg),
    ("ExtractJpegShape", files::extract_jpeg_shape),
    ("EncodePng", files::encode_png),
    ("EncodeJpeg", files::encode_jpeg),
    ("EncodeJpegVariableQuality", files::encode_jpeg_of_quality),
    ("ResizeNearestNeighborGrad", resize::nearest_grad),
    ("ResizeBilinearGrad", resize::bilinear_grad),
    ("ResizeBicubic", resize::bicubic),
    ("ResizeBicubicGrad", resize::bicubic_grad),
    ("ResizeArea", resize::area),
    ("ScaleAndTranslate", scale::scale_and_translate),
    ("ScaleAndTranslateGrad", scale::gradient),
    ("CropAndResize", crop::crop_and_resize),
    ("CropAndResizeGradImage", crop::gradient_of_image),
    ("CropAndResizeGradBoxes", crop::gradient_of_boxes),
    ("NonMaxSuppression", suppress::v1),
    ("NonMaxSuppressionV2", suppress::v2),
    ("NonMaxSuppressionV3", suppress::v3),
    ("NonMaxSuppressionV4", suppress::v4),
    ("NonMaxSuppressionV5", suppress::v5),
    ("NonMaxSuppressionWithOverlaps", suppress::with_overlaps),
    ("CombinedNonMaxSuppression", suppress::combined),
    ("RGBToHSV", colour::rgb_to_hsv),
    ("HSVToRGB", colour::hsv_to_rgb),
    ("AdjustHue", colour::adjust_hue),
    ("AdjustSaturation", colour::adjust_saturation),
    ("AdjustContrastv2", colour::adjust_contrast),
    ("DrawBoundingBoxes", boxes::draw),
    ("DrawBoundingBoxesV2", boxes::draw),
    ("SampleDistortedBoundingBox", boxes::sample_distorted),
    ("SampleDistortedBoundingBoxV2", boxes::sample_distorted),
    ("StatelessSampleDistortedBoundingBox", boxes::sample_distorted_stateless),
    ("ExtractGlimpse", patches::glimpse),
    ("ExtractGlimpseV2", patches::glimpse),
    ("ExtractVolumePatches", patches::volume_patches),
    ("ImageProjectiveTransformV2", patches::projective_transform),
    ("ImageProjectiveTransformV3", patches::projective_transform),
];

/// A batch of images: batch, height, width, channels.
struct Images {
    shape: [usize; 4],
    values: Vec<f32>,
}

impl Images {
    /// Operand `k`, of any type of real numbers.
    fn of(call: &Call, k: usize) -> Result<Images, HostError> {
        Ok(Images { shape: shape_of(call, k)?, values: reals(call, k)?.into_iter().map(|v| v as f32).collect() })
    }

    /// Where the pixel starts in the values.
    fn at(&self, batch: usize, y: usize, x: usize) -> usize {
        pixel(&self.shape, batch, y, x)
    }
}

/// Where a pixel starts in the elements of images of that shape.
fn pixel(shape: &[usize; 4], batch: usize, y: usize, x: usize) -> usize {
    ((batch * shape[1] + y) * shape[2] + x) * shape[3]
}

/// The shape of operand `k`, a batch of images.
fn shape_of(call: &Call, k: usize) -> Result<[usize; 4], HostError> {
    let t = call.tensor(k)?;
    t.shape().try_into().map_err(|_| invalid(format!("operand {k} must be images of rank 4, not of shape {:?}", t.shape())))
}

/// Height and width, the two elements of operand `k`, both positive.
pub(crate) fn size_operand(call: &Call, k: usize) -> Result<[usize; 2], HostError> {
    let t = call.tensor(k)?;
    let sizes = call.ints(k)?;
    match (t.rank(), &*sizes) {
        (1, &[h, w]) if h > 0 && w > 0 => Ok([h as usize, w as usize]),
        _ => Err(invalid(format!("the size must be two positive numbers, not {sizes:?} of shape {:?}", t.shape()))),
    }
}
