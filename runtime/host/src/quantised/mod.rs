//! Quantised arithmetic.

mod arithmetic;
mod convert;
mod fake;
mod normalise;
mod ranges;
mod resize;
mod round_trip;
mod uniform;
mod uniform_conv;
mod uniform_product;
#[cfg(test)]
mod uniform_tests;

use crate::Table;

pub(crate) const TABLE: Table = &[
    ("FakeQuantWithMinMaxArgs", fake::args),
    ("FakeQuantWithMinMaxArgsGradient", fake::args_gradient),
    ("FakeQuantWithMinMaxVars", fake::vars),
    ("FakeQuantWithMinMaxVarsGradient", fake::vars_gradient),
    ("FakeQuantWithMinMaxVarsPerChannel", fake::per_channel),
    ("FakeQuantWithMinMaxVarsPerChannelGradient", fake::per_channel_gradient),
    ("QuantizeAndDequantize", round_trip::by_attributes),
    ("QuantizeAndDequantizeV2", round_trip::by_operands),
    ("QuantizeAndDequantizeV3", round_trip::with_bits),
    ("QuantizeAndDequantizeV4", round_trip::by_operands),
    ("QuantizeAndDequantizeV4Grad", round_trip::gradient),
    ("QuantizedConv2D", arithmetic::conv_2d),
    ("QuantizedMatMul", arithmetic::mat_mul),
    ("QuantizedMul", arithmetic::multiply),
    ("QuantizedAdd", arithmetic::add),
    ("QuantizedBiasAdd", arithmetic::bias_add),
    ("QuantizedAvgPool", arithmetic::avg_pool),
    ("QuantizedMaxPool", arithmetic::max_pool),
    ("QuantizedRelu", arithmetic::relu),
    ("QuantizedRelu6", arithmetic::relu6),
    ("QuantizedReluX", arithmetic::relu_x),
    ("QuantizedReshape", arithmetic::reshape),
    ("QuantizedConcat", arithmetic::concat),
    ("QuantizedBatchNormWithGlobalNormalization", normalise::batch),
    ("QuantizedInstanceNorm", normalise::instance),
    ("QuantizedResizeBilinear", resize::bilinear),
    ("QuantizeV2", convert::quantize),
    ("Dequantize", convert::dequantize),
    ("QuantizeDownAndShrinkRange", convert::shrink_range),
    ("Requantize", convert::requantize),
    ("RequantizationRange", convert::requantization_range),
    ("UniformQuantize", uniform::quantize),
    ("UniformDequantize", uniform::dequantize),
    ("UniformRequantize", uniform::requantize),
    ("UniformQuantizedAdd", uniform::add),
    ("UniformQuantizedClipByValue", uniform::clip),
    ("UniformQuantizedDot", uniform_product::dot),
    ("UniformQuantizedDotHybrid", uniform_product::dot_hybrid),
    ("UniformQuantizedConvolution", uniform_conv::convolution),
    ("UniformQuantizedConvolutionHybrid", uniform_conv::convolution_hybrid),
];
