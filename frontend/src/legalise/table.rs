//! Which rule legalises which op.

use super::cx::{NodeCx, Res};
use super::optimise::{self, Family};
use super::{
    conv, conv_grad, conv3d, dequantise, diag, elementwise as el, index, lists, matrix, misc, norm, pad, parts, pool, quantised,
    reduce, shape, slice, space, state,
};
use crate::dtype::DataType;
use crate::model::Model;
use graphc_ir::Op;
use hashbrown::HashMap;
use std::sync::OnceLock;

/// A rule: the node's outputs from its operands.
pub enum Rule {
    /// One IR op of one operand.
    Un(Op),
    /// One IR op of two operands that broadcast.
    Bin(Op),
    Fn(fn(&mut NodeCx) -> Res),
    /// What only the model tells.
    Model(fn(&mut NodeCx, &Model) -> Res),
    /// Control flow, which needs the bodies of functions.
    Control,
    /// The legaliser itself makes the outputs: constants, parameters, handles.
    Source,
}

/// Element types that a rule covers; other types make the op unsupported.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// Floats, integers and bool.
    Real,
    /// Complex numbers too.
    Number,
    /// Everything that has elements of fixed size.
    Plain,
    /// Types do not matter.
    Any,
}

impl On {
    pub fn covers(self, t: DataType) -> bool {
        use DataType as D;
        let handle = matches!(t, D::String | D::Variant | D::Resource);
        let complex = matches!(t, D::Complex64 | D::Complex128);
        let quantised = matches!(t, D::Qint8 | D::Quint8 | D::Qint16 | D::Quint16 | D::Qint32);
        // TensorFlow only keeps these floats.
        let kept = matches!(t, D::Float8E4m3fnuz | D::Float8E4m3b11fnuz | D::Float8E5m2fnuz);
        match self {
            On::Any => true,
            On::Plain => !handle,
            On::Number => !handle && !quantised && !kept,
            On::Real => !handle && !quantised && !kept && !complex,
        }
    }
}

pub struct Row {
    pub op: &'static str,
    pub on: On,
    pub rule: Rule,
}

/// The rule of a TensorFlow op.
pub fn row(op: &str) -> Option<&'static Row> {
    static INDEX: OnceLock<HashMap<&'static str, &'static Row>> = OnceLock::new();
    INDEX.get_or_init(|| TABLE.iter().map(|r| (r.op, r)).collect()).get(op).copied()
}

/// Names of all ops that have a rule, in the order of the table.
pub fn supported() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|r| r.op)
}

macro_rules! table {
    ($($on:ident { $($($op:literal)|+ => $rule:expr;)* })*) => {
        static TABLE: &[Row] = &[$($($(Row { op: $op, on: On::$on, rule: $rule },)+)*)*];
    };
}

use Rule::{Bin, Control, Fn, Model as OfModel, Source, Un};

table! {
    Any {
        "Const" | "Placeholder" | "VarHandleOp" | "VariableV2" | "Variable" | "TemporaryVariable" | "_Arg" => Source;
        "NoOp" | "ControlTrigger" | "MergeV2Checkpoints" => Fn(|_| Ok(Vec::new()));
        "Assert" => Fn(super::assert);
        "Identity" | "IdentityN" | "StopGradient" | "PreventGradient" | "Snapshot" | "PlaceholderWithDefault" | "DisableCopyOnRead"
            | "RefIdentity" | "_Retval" | "DebugIdentityV2" | "XlaSharding" | "OptimizationBarrier"
            | "XlaOptimizationBarrier" | "XlaClusterOutput" | "GuaranteeConst" | "DeepCopy" | "XlaSpmdFullToShardShape"
            | "XlaSpmdShardToFullShape" => Fn(el::identity);
        "GraphDefVersion" => OfModel(|cx, model| Ok(vec![cx.scalar_of(model.producer())]));
        "IsTensorFloat32Enabled" => Fn(misc::is_tensor_float_32_enabled);
        "DeviceIndex" => Fn(misc::device_index);
        "If" | "StatelessIf" | "Case" | "StatelessCase" | "While" | "StatelessWhile" => Control;
        "TensorListReserve" => Fn(lists::reserve);
        "EmptyTensorList" => Fn(lists::empty);
        "TensorListFromTensor" => Fn(lists::from_tensor);
        "TensorListGetItem" => Fn(lists::get_item);
        "TensorListSetItem" => Fn(lists::set_item);
        "TensorListScatterIntoExistingList" => Fn(lists::scatter_into);
        "TensorListConcatV2" => Fn(lists::concat);
        "TensorListStack" => Fn(lists::stack);
        "TensorListLength" => Fn(lists::length);
        "TensorListGather" => Fn(lists::gather);
        "TensorListPushBack" => Fn(lists::push_back);
        "TensorListPopBack" => Fn(lists::pop_back);
        "Shape" | "ShapeN" => Fn(shape::shape);
        "Size" => Fn(shape::size);
        "Rank" => Fn(shape::rank);
        "ReadVariableOp" => Fn(state::read_variable);
        "AssignVariableOp" => Fn(|cx| state::assign_variable(cx, None));
        "VariableShape" => Fn(state::variable_shape);
        "VarIsInitializedOp" | "IsVariableInitialized" => Fn(state::is_initialized);
        "ResourceGather" => Fn(state::resource_gather);
        "ResourceGatherNd" => Fn(state::resource_gather_nd);
        "Assign" => Fn(|cx| state::assign_reference(cx, None));
    }
    Real {

        "ResourceScatterMin" | "ScatterMin" => Fn(|cx| state::scatter(cx, "min"));
        "ResourceScatterMax" | "ScatterMax" => Fn(|cx| state::scatter(cx, "max"));
        "ResourceScatterNdMin" | "ScatterNdMin" => Fn(|cx| state::scatter_nd(cx, "min"));
        "ResourceScatterNdMax" | "ScatterNdMax" => Fn(|cx| state::scatter_nd(cx, "max"));

        "Abs" => Un(Op::Abs);
        "Floor" => Un(Op::Floor);
        "Ceil" => Un(Op::Ceil);
        "Round" | "Rint" => Un(Op::Round);
        "Erf" => Un(Op::Erf);
        "Erfc" => Un(Op::Erfc);
        "Lgamma" => Un(Op::Lgamma);
        "Digamma" => Un(Op::Digamma);
        "IsNan" => Un(Op::IsNan);
        "IsInf" => Un(Op::IsInf);
        "IsFinite" => Un(Op::IsFinite);
        "LogicalNot" | "Invert" => Un(Op::Not);
        "Relu" => Un(Op::Relu);
        "Elu" => Un(Op::Elu);
        "Softplus" => Un(Op::Softplus);
        "Relu6" => Fn(el::relu6);
        "LeakyRelu" => Fn(el::leaky_relu);
        "Selu" => Fn(el::selu);
        "Softsign" => Fn(el::softsign);
        "ClipByValue" => Fn(el::clip_by_value);

        "FloorDiv" => Bin(Op::FloorDiv);
        "FloorMod" => Bin(Op::Mod);
        "Mod" | "TruncateMod" => Bin(Op::Rem);
        "Atan2" => Bin(Op::Atan2);
        "Maximum" => Bin(Op::Max);
        "Minimum" => Bin(Op::Min);
        "LogicalAnd" | "BitwiseAnd" => Bin(Op::And);
        "LogicalOr" | "BitwiseOr" => Bin(Op::Or);
        "BitwiseXor" => Bin(Op::Xor);
        "LeftShift" => Fn(|cx| el::shift(cx, Op::Shl));
        "RightShift" => Fn(|cx| el::shift(cx, Op::Shr));
        "Less" => Bin(Op::Lt);
        "LessEqual" => Bin(Op::Le);
        "Greater" => Bin(Op::Gt);
        "GreaterEqual" => Bin(Op::Ge);

        "FakeQuantWithMinMaxArgs" => Fn(quantised::fake_quant_args);
        "FakeQuantWithMinMaxVars" => Fn(quantised::fake_quant_vars);
        "FakeQuantWithMinMaxVarsPerChannel" => Fn(quantised::fake_quant_per_channel);
        "QuantizeAndDequantizeV2" | "QuantizeAndDequantizeV4" => Fn(|cx| quantised::round_trip(cx, None));
        "QuantizeAndDequantizeV3" => Fn(|cx| quantised::round_trip(cx, Some(3)));

        "ReluGrad" => Fn(el::relu_grad);
        "Relu6Grad" => Fn(el::relu6_grad);
        "LeakyReluGrad" => Fn(el::leaky_relu_grad);
        "EluGrad" => Fn(el::elu_grad);
        "SeluGrad" => Fn(el::selu_grad);
        "SoftplusGrad" => Fn(el::softplus_grad);
        "SoftsignGrad" => Fn(el::softsign_grad);
        "L2Loss" => Fn(el::l2_loss);
        "ApproximateEqual" => Fn(el::approximate_equal);
        "Bucketize" => Fn(shape::bucketize);

        "Max" => Fn(|cx| reduce::reduce(cx, "max"));
        "Min" => Fn(|cx| reduce::reduce(cx, "min"));
        "Any" => Fn(|cx| reduce::reduce(cx, "any"));
        "All" => Fn(|cx| reduce::reduce(cx, "all"));
        "ArgMax" => Fn(|cx| reduce::arg_reduce(cx, "max"));
        "ArgMin" => Fn(|cx| reduce::arg_reduce(cx, "min"));
        "TopKV2" => Fn(|cx| reduce::top_k(cx, true));
        "TopK" => Fn(|cx| reduce::top_k(cx, false));

        "Conv2D" => Fn(conv::conv2d);
        "FusedPadConv2D" => Fn(|cx| conv::pad_conv2d(cx, false));
        "FusedResizeAndPadConv2D" => Fn(|cx| conv::pad_conv2d(cx, true));
        "DepthwiseConv2dNative" => Fn(conv::depthwise);
        "Conv2DBackpropInput" => Fn(conv_grad::conv2d_input);
        "Conv2DBackpropFilter" => Fn(conv_grad::conv2d_filter);
        "DepthwiseConv2dNativeBackpropInput" => Fn(conv_grad::depthwise_input);
        "DepthwiseConv2dNativeBackpropFilter" => Fn(conv_grad::depthwise_filter);
        "Conv" => Fn(conv3d::conv);
        "Conv3D" => Fn(conv3d::conv3d);
        "Conv3DBackpropInput" => Fn(|cx| conv3d::conv3d_input(cx, false));
        "Conv3DBackpropInputV2" => Fn(|cx| conv3d::conv3d_input(cx, true));
        "Conv3DBackpropFilter" => Fn(|cx| conv3d::conv3d_filter(cx, false));
        "Conv3DBackpropFilterV2" => Fn(|cx| conv3d::conv3d_filter(cx, true));
        "MaxPool" => Fn(|cx| pool::pool(cx, "max", 2, false));
        "MaxPoolV2" => Fn(|cx| pool::pool(cx, "max", 2, true));
        "AvgPool" => Fn(|cx| pool::pool(cx, "avg", 2, false));
        "MaxPool3D" => Fn(|cx| pool::pool(cx, "max", 3, false));
        "AvgPool3D" => Fn(|cx| pool::pool(cx, "avg", 3, false));
        "MaxPoolGrad" => Fn(|cx| pool::max_pool_grad(cx, false));
        "MaxPoolGradV2" => Fn(|cx| pool::max_pool_grad(cx, true));
        "MaxPoolGradGrad" => Fn(|cx| pool::max_pool_grad_grad(cx, 2, false));
        "MaxPoolGradGradV2" => Fn(|cx| pool::max_pool_grad_grad(cx, 2, true));
        "MaxPool3DGrad" => Fn(pool::max_pool3d_grad);
        "MaxPool3DGradGrad" => Fn(|cx| pool::max_pool_grad_grad(cx, 3, false));
        "MaxPoolWithArgmax" => Fn(pool::max_pool_with_argmax);
        "MaxPoolGradWithArgmax" => Fn(|cx| pool::max_pool_grad_with_argmax(cx, false));
        "MaxPoolGradGradWithArgmax" => Fn(|cx| pool::max_pool_grad_with_argmax(cx, true));
        "AvgPoolGrad" => Fn(|cx| pool::avg_pool_grad(cx, 2));
        "AvgPool3DGrad" => Fn(|cx| pool::avg_pool_grad(cx, 3));
        "ExtractImagePatches" => Fn(conv::extract_image_patches);
        "ResizeBilinear" => Fn(|cx| conv::resize(cx, "bilinear"));
        "ResizeNearestNeighbor" => Fn(|cx| conv::resize(cx, "nearest"));

        "FusedBatchNorm" | "FusedBatchNormV2" => Fn(|cx| norm::fused_batch_norm(cx, false));
        "FusedBatchNormV3" => Fn(|cx| norm::fused_batch_norm(cx, true));
        "BatchNormWithGlobalNormalization" => Fn(norm::batch_norm_global);
        "Softmax" => Fn(|cx| norm::softmax(cx, false));
        "LogSoftmax" => Fn(|cx| norm::softmax(cx, true));
        "SoftmaxCrossEntropyWithLogits" => Fn(norm::softmax_cross_entropy);
        "SparseSoftmaxCrossEntropyWithLogits" => Fn(norm::sparse_softmax_cross_entropy);
        "LRN" => Fn(norm::lrn);
        "LRNGrad" => Fn(norm::lrn_grad);
        "BatchNormWithGlobalNormalizationGrad" => Fn(norm::batch_norm_global_grad);
        "FusedBatchNormGrad" | "FusedBatchNormGradV2" | "FusedBatchNormGradV3" => Fn(norm::fused_batch_norm_grad);

        "Range" => Fn(shape::range);
        "LinSpace" => Fn(shape::lin_space);
        "BroadcastArgs" => Fn(shape::broadcast_args);
        "BroadcastGradientArgs" => Fn(shape::broadcast_gradient_args);
        "InvertPermutation" => Fn(shape::invert_permutation);
        "ConcatOffset" => Fn(shape::concat_offset);
        "UnsortedSegmentMax" => Fn(|cx| index::unsorted_segment(cx, "max"));
        "UnsortedSegmentMin" => Fn(|cx| index::unsorted_segment(cx, "min"));
        "SegmentMax" => Fn(|cx| index::segment(cx, "max"));
        "SegmentMin" => Fn(|cx| index::segment(cx, "min"));
        "DenseBincount" | "Bincount" => Fn(misc::bincount);
        "LowerBound" => Fn(|cx| misc::bound(cx, Op::Lt));
        "UpperBound" => Fn(|cx| misc::bound(cx, Op::Le));
        "ListDiff" => Fn(misc::list_diff);
        "SparseMatMul" => Fn(misc::sparse_mat_mul);
        "Cross" => Fn(misc::cross);
        "TensorScatterMin" => Fn(|cx| index::tensor_scatter(cx, "min"));
        "TensorScatterMax" => Fn(|cx| index::tensor_scatter(cx, "max"));
    }
    Number {
        "Neg" => Un(Op::Neg);
        "Sign" => Un(Op::Sign);
        "Sqrt" => Un(Op::Sqrt);
        "Rsqrt" => Un(Op::Rsqrt);
        "Exp" => Un(Op::Exp);
        "Expm1" => Un(Op::Expm1);
        "Log" => Un(Op::Log);
        "Log1p" => Un(Op::Log1p);
        "Sin" => Un(Op::Sin);
        "Cos" => Un(Op::Cos);
        "Tan" => Un(Op::Tan);
        "Sinh" => Un(Op::Sinh);
        "Cosh" => Un(Op::Cosh);
        "Tanh" => Un(Op::Tanh);
        "Asinh" => Un(Op::Asinh);
        "Acosh" => Un(Op::Acosh);
        "Atanh" => Un(Op::Atanh);
        "Sigmoid" => Un(Op::Sigmoid);
        "Add" | "AddV2" => Bin(Op::Add);
        "Sub" => Bin(Op::Sub);
        "Mul" => Bin(Op::Mul);
        "RealDiv" | "Div" => Bin(Op::Div);
        "TruncateDiv" => Fn(el::truncate_div);
        "Pow" => Bin(Op::Pow);
        "ComplexAbs" => Un(Op::Abs);
        "Complex" => Bin(Op::Complex);
        "Real" => Fn(|cx| el::part(cx, Op::Real));
        "Imag" => Fn(|cx| el::part(cx, Op::Imag));
        "Angle" => Fn(el::angle);
        "AssignAddVariableOp" => Fn(|cx| state::assign_variable(cx, Some(Op::Add)));
        "AssignSubVariableOp" => Fn(|cx| state::assign_variable(cx, Some(Op::Sub)));
        "AssignAdd" => Fn(|cx| state::assign_reference(cx, Some(Op::Add)));
        "AssignSub" => Fn(|cx| state::assign_reference(cx, Some(Op::Sub)));
        "ResourceScatterAdd" | "ScatterAdd" => Fn(|cx| state::scatter(cx, "add"));
        "ResourceScatterSub" | "ScatterSub" => Fn(|cx| state::scatter(cx, "sub"));
        "ResourceScatterMul" | "ScatterMul" => Fn(|cx| state::scatter(cx, "mul"));
        "ResourceScatterDiv" | "ScatterDiv" => Fn(|cx| state::scatter(cx, "div"));
        "ResourceScatterNdAdd" | "ScatterNdAdd" => Fn(|cx| state::scatter_nd(cx, "add"));
        "ResourceScatterNdSub" | "ScatterNdSub" => Fn(|cx| state::scatter_nd(cx, "sub"));
        "ApplyGradientDescent" | "ResourceApplyGradientDescent" => Fn(|cx| optimise::apply(cx, Family::GradientDescent));
        "ApplyProximalGradientDescent" | "ResourceApplyProximalGradientDescent" => Fn(|cx| optimise::apply(cx, Family::ProximalGradientDescent));
        "SparseApplyProximalGradientDescent" | "ResourceSparseApplyProximalGradientDescent" => Fn(|cx| optimise::apply_sparse(cx, Family::ProximalGradientDescent));
        "ApplyMomentum" | "ResourceApplyMomentum" => Fn(|cx| optimise::apply(cx, Family::Momentum));
        "SparseApplyMomentum" | "ResourceSparseApplyMomentum" => Fn(|cx| optimise::apply_sparse(cx, Family::Momentum));
        "ResourceApplyKerasMomentum" => Fn(|cx| optimise::apply(cx, Family::KerasMomentum));
        "ResourceSparseApplyKerasMomentum" => Fn(|cx| optimise::apply_sparse(cx, Family::KerasMomentum));
        "ApplyAdagrad" | "ResourceApplyAdagrad" => Fn(|cx| optimise::apply(cx, Family::Adagrad));
        "SparseApplyAdagrad" | "ResourceSparseApplyAdagrad" => Fn(|cx| optimise::apply_sparse(cx, Family::Adagrad));
        "ApplyAdagradV2" | "ResourceApplyAdagradV2" => Fn(|cx| optimise::apply(cx, Family::AdagradV2));
        "SparseApplyAdagradV2" | "ResourceSparseApplyAdagradV2" => Fn(|cx| optimise::apply_sparse(cx, Family::AdagradV2));
        "ApplyAdagradDA" | "ResourceApplyAdagradDA" => Fn(|cx| optimise::apply(cx, Family::AdagradDa));
        "SparseApplyAdagradDA" | "ResourceSparseApplyAdagradDA" => Fn(|cx| optimise::apply_sparse(cx, Family::AdagradDa));
        "ApplyProximalAdagrad" | "ResourceApplyProximalAdagrad" => Fn(|cx| optimise::apply(cx, Family::ProximalAdagrad));
        "SparseApplyProximalAdagrad" | "ResourceSparseApplyProximalAdagrad" => Fn(|cx| optimise::apply_sparse(cx, Family::ProximalAdagrad));
        "ApplyAdadelta" | "ResourceApplyAdadelta" => Fn(|cx| optimise::apply(cx, Family::Adadelta));
        "SparseApplyAdadelta" | "ResourceSparseApplyAdadelta" => Fn(|cx| optimise::apply_sparse(cx, Family::Adadelta));
        "ApplyAdam" | "ResourceApplyAdam" => Fn(|cx| optimise::apply(cx, Family::Adam));
        "ResourceApplyAdamWithAmsgrad" => Fn(|cx| optimise::apply(cx, Family::AdamWithAmsgrad));
        "ApplyAdaMax" | "ResourceApplyAdaMax" => Fn(|cx| optimise::apply(cx, Family::AdaMax));
        "ApplyRMSProp" | "ResourceApplyRMSProp" => Fn(|cx| optimise::apply(cx, Family::RmsProp));
        "SparseApplyRMSProp" | "ResourceSparseApplyRMSProp" => Fn(|cx| optimise::apply_sparse(cx, Family::RmsProp));
        "ApplyCenteredRMSProp" | "ResourceApplyCenteredRMSProp" => Fn(|cx| optimise::apply(cx, Family::CenteredRmsProp));
        "SparseApplyCenteredRMSProp" | "ResourceSparseApplyCenteredRMSProp" => Fn(|cx| optimise::apply_sparse(cx, Family::CenteredRmsProp));
        "ApplyFtrl" | "ResourceApplyFtrl" => Fn(|cx| optimise::apply(cx, Family::Ftrl));
        "SparseApplyFtrl" | "ResourceSparseApplyFtrl" => Fn(|cx| optimise::apply_sparse(cx, Family::Ftrl));
        "ApplyFtrlV2" | "ResourceApplyFtrlV2" => Fn(|cx| optimise::apply(cx, Family::Ftrl));
        "SparseApplyFtrlV2" | "ResourceSparseApplyFtrlV2" => Fn(|cx| optimise::apply_sparse(cx, Family::Ftrl));
        "ApplyAddSign" | "ResourceApplyAddSign" => Fn(|cx| optimise::apply(cx, Family::AddSign));
        "ApplyPowerSign" | "ResourceApplyPowerSign" => Fn(|cx| optimise::apply(cx, Family::PowerSign));
        "InplaceAdd" => Fn(|cx| index::inplace(cx, "add"));
        "InplaceSub" => Fn(|cx| index::inplace(cx, "sub"));
        "Asin" => Un(Op::Asin);
        "Acos" => Un(Op::Acos);
        "Atan" => Un(Op::Atan);
        "Xlog1py" => Fn(el::xlog1py);
        "SigmoidGrad" => Fn(el::sigmoid_grad);
        "TanhGrad" => Fn(el::tanh_grad);
        "RsqrtGrad" => Fn(el::rsqrt_grad);
        "ReciprocalGrad" | "InvGrad" => Fn(el::reciprocal_grad);
        "SqrtGrad" => Fn(el::sqrt_grad);
        "SquaredDifference" => Fn(el::squared_difference);
        "Mean" => Fn(|cx| reduce::reduce(cx, "mean"));
        "EuclideanNorm" => Fn(reduce::euclidean_norm);
        "SegmentMean" => Fn(|cx| index::segment(cx, "mean"));
        "Square" => Fn(el::square);
        "Reciprocal" | "Inv" => Fn(el::reciprocal);
        "DivNoNan" => Fn(el::div_no_nan);
        "MulNoNan" => Fn(el::mul_no_nan);
        "Xdivy" => Fn(el::xdivy);
        "Xlogy" => Fn(el::xlogy);
        "Conj" => Fn(el::conj);
        "AddN" | "AccumulateNV2" => Fn(el::add_n);
        "OnesLike" => Fn(|cx| el::like_value(cx, 1.0));
        "BiasAdd" | "BiasAddV1" => Fn(conv::bias_add);
        "BiasAddGrad" => Fn(reduce::bias_add_grad);
        "Sum" => Fn(|cx| reduce::reduce(cx, "sum"));
        "Prod" => Fn(|cx| reduce::reduce(cx, "prod"));
        "Cumsum" => Fn(|cx| reduce::cumulative(cx, "sum"));
        "Cumprod" => Fn(|cx| reduce::cumulative(cx, "prod"));
        "MatMul" => Fn(matrix::mat_mul);
        "BatchMatMul" => Fn(|cx| matrix::batch_mat_mul(cx, false));
        "BatchMatMulV2" | "BatchMatMulV3" => Fn(|cx| matrix::batch_mat_mul(cx, true));
        "Einsum" => Fn(matrix::einsum);
        "UnsortedSegmentSum" => Fn(|cx| index::unsorted_segment(cx, "add"));
        "SegmentSum" => Fn(|cx| index::segment(cx, "sum"));
        "SegmentProd" => Fn(|cx| index::segment(cx, "prod"));
        "ScatterNd" => Fn(index::scatter_nd);
        "TensorScatterAdd" | "ScatterNdNonAliasingAdd" => Fn(|cx| index::tensor_scatter(cx, "add"));
        "TensorScatterSub" => Fn(|cx| index::tensor_scatter(cx, "sub"));
        "StridedSliceGrad" => Fn(slice::strided_slice_grad);
        "ZerosLike" => Fn(|cx| el::like_value(cx, 0.0));
        "MirrorPadGrad" => Fn(pad::mirror_pad_grad);
        "SpaceToBatchND" => Fn(|cx| space::space_to_batch(cx, true));
        "SpaceToBatch" => Fn(|cx| space::space_to_batch(cx, false));
        "Empty" => Fn(shape::empty);
        "MatrixDiag" => Fn(|cx| diag::matrix_diag(cx, false));
        "MatrixDiagV2" | "MatrixDiagV3" => Fn(|cx| diag::matrix_diag(cx, true));
        "MatrixDiagPart" => Fn(|cx| diag::matrix_diag_part(cx, false));
        "MatrixDiagPartV2" | "MatrixDiagPartV3" => Fn(|cx| diag::matrix_diag_part(cx, true));
        "MatrixSetDiag" => Fn(|cx| diag::matrix_set_diag(cx, false));
        "MatrixSetDiagV2" | "MatrixSetDiagV3" => Fn(|cx| diag::matrix_set_diag(cx, true));
        "MatrixBandPart" => Fn(diag::matrix_band_part);
        "Diag" => Fn(diag::diag);
        "DiagPart" => Fn(diag::diag_part);
    }
    Plain {
        "Bitcast" => Fn(dequantise::bitcast);
        "QuantizeV2" => Fn(dequantise::quantize);
        "Dequantize" => Fn(dequantise::dequantize);
        "ResourceScatterUpdate" | "ScatterUpdate" => Fn(|cx| state::scatter(cx, "set"));
        "ResourceScatterNdUpdate" | "ScatterNdUpdate" => Fn(|cx| state::scatter_nd(cx, "set"));
        "ResourceStridedSliceAssign" | "StridedSliceAssign" => Fn(state::strided_slice_assign);
        "DestroyTemporaryVariable" => Fn(state::last_value);
        "InplaceUpdate" => Fn(|cx| index::inplace(cx, "set"));
        "ParallelConcat" => Fn(parts::parallel_concat);
        "Cast" => Fn(el::cast);
        "Reshape" => Fn(shape::reshape);
        "ExpandDims" => Fn(shape::expand_dims);
        "Squeeze" => Fn(shape::squeeze);
        "Fill" => Fn(shape::fill);
        "BroadcastTo" => Fn(shape::broadcast_to);
        "Transpose" => Fn(shape::transpose);
        "ConjugateTranspose" => Fn(shape::conjugate_transpose);
        "EnsureShape" => Fn(shape::ensure_shape);
        "Slice" => Fn(slice::slice);
        "StridedSlice" => Fn(slice::strided_slice);
        "TensorStridedSliceUpdate" => Fn(slice::tensor_strided_slice_update);
        "Split" => Fn(parts::split);
        "SplitV" => Fn(parts::split_v);
        "Unpack" => Fn(parts::unpack);
        "Pack" => Fn(parts::pack);
        "Concat" => Fn(|cx| parts::concat(cx, true));
        "ConcatV2" => Fn(|cx| parts::concat(cx, false));
        "Tile" => Fn(parts::tile);
        "ReverseV2" => Fn(|cx| parts::reverse(cx, false));
        "Reverse" => Fn(|cx| parts::reverse(cx, true));
        "Roll" => Fn(parts::roll);
        "Equal" => Fn(|cx| el::equality(cx, Op::Eq));
        "NotEqual" => Fn(|cx| el::equality(cx, Op::Ne));
        "Pad" => Fn(|cx| pad::pad(cx, false));
        "PadV2" => Fn(|cx| pad::pad(cx, true));
        "MirrorPad" => Fn(pad::mirror_pad);
        "SpaceToDepth" => Fn(space::space_to_depth);
        "DepthToSpace" => Fn(space::depth_to_space);
        "BatchToSpaceND" => Fn(|cx| space::batch_to_space(cx, true));
        "BatchToSpace" => Fn(|cx| space::batch_to_space(cx, false));
        "Select" => Fn(el::select_v1);
        "SelectV2" => Fn(el::select_v2);
        "Gather" => Fn(index::gather_v1);
        "GatherV2" => Fn(index::gather_v2);
        "GatherNd" => Fn(index::gather_nd);
        "OneHot" => Fn(index::one_hot);
        "SparseToDense" => Fn(misc::sparse_to_dense);
        "ReverseSequence" => Fn(misc::reverse_sequence);
        "Where" => Fn(misc::where_known);
        "TensorScatterUpdate" => Fn(|cx| index::tensor_scatter(cx, "set"));
        "DynamicStitch" | "ParallelDynamicStitch" => Fn(index::dynamic_stitch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_a_known_op_and_stands_once() {
        let mut names: Vec<_> = supported().collect();
        for n in &names {
            let internal = matches!(*n, "_Arg" | "_Retval" | "OptimizationBarrier" | "CheckNumericsV2");
            assert!(internal || crate::ops::builtin(n).is_some(), "{n}");
        }
        names.sort_unstable();
        assert!(names.windows(2).all(|w| w[0] != w[1]));
    }
}
