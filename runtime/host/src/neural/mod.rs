//! Layers without generated code: fractional pooling, dilation, gradients of pools, CTC, recurrent blocks.

mod beam;
mod ctc;
mod dilation;
mod fractional;
mod gru;
mod local;
mod lstm;
mod pool;
mod window;

use crate::Table;

pub(crate) const TABLE: Table = &[
    ("FractionalMaxPool", fractional::max_pool),
    ("FractionalAvgPool", fractional::avg_pool),
    ("FractionalMaxPoolGrad", fractional::max_pool_grad),
    ("FractionalAvgPoolGrad", fractional::avg_pool_grad),
    ("Dilation2D", dilation::dilation),
    ("Dilation2DBackpropInput", dilation::backprop_input),
    ("Dilation2DBackpropFilter", dilation::backprop_filter),
    ("MaxPoolGradGrad", pool::max_grad_grad),
    ("MaxPoolGradGradV2", pool::max_grad_grad_v2),
    ("MaxPool3DGradGrad", pool::max_grad_grad_3d),
    ("MaxPoolWithArgmax", pool::max_with_argmax),
    ("MaxPoolGradWithArgmax", pool::max_grad_with_argmax),
    ("LRNGrad", local::lrn_grad),
    ("MirrorPadGrad", local::mirror_pad_grad),
    ("LSTMBlockCell", lstm::cell),
    ("LSTMBlockCellGrad", lstm::cell_grad),
    ("BlockLSTM", lstm::block),
    ("BlockLSTMV2", lstm::block),
    ("BlockLSTMGrad", lstm::block_grad),
    ("BlockLSTMGradV2", lstm::block_grad),
    ("GRUBlockCell", gru::cell),
    ("GRUBlockCellGrad", gru::cell_grad),
    ("CTCLoss", ctc::loss),
    ("CTCLossV2", ctc::loss_v2),
    ("CTCGreedyDecoder", ctc::greedy_decoder),
    ("CTCBeamSearchDecoder", beam::beam_search_decoder),
];

#[cfg(test)]
mod tests {
    use crate::Attr;
    use crate::testing::{run, t, v};

    #[test]
    fn pooling_sequences_are_those_of_tensorflow() {
        let ratios = |r: [f32; 2]| Attr::List([1.0, r[0], r[1], 1.0].map(Attr::Float).to_vec());
        let sequences = |pseudo: bool, seed2: i64, r: [f32; 2]| {
            let attrs = [
                ("pooling_ratio", ratios(r)),
                ("pseudo_random", Attr::Bool(pseudo)),
                ("overlapping", Attr::Bool(false)),
                ("deterministic", Attr::Bool(true)),
                ("seed", Attr::Int(3)),
                ("seed2", Attr::Int(seed2)),
            ];
            let out = run("FractionalMaxPool", &attrs, &[t(&[1, 7, 7, 1], &[0f32; 49])]).unwrap();
            [v::<i64>(&out[1]), v::<i64>(&out[2])]
        };
        assert_eq!(sequences(false, 5, [1.5, 1.4]), [vec![0, 1, 3, 5, 7], vec![0, 1, 2, 4, 6, 7]]);
        assert_eq!(sequences(true, 5, [1.5, 1.4]), [vec![0, 1, 3, 5, 7], vec![0, 1, 3, 4, 6, 7]]);
        assert_eq!(sequences(true, 0, [2.3, 1.1]), [vec![0, 2, 4, 7], vec![0, 1, 3, 4, 5, 6, 7]]);
    }

    fn logits() -> [f32; 24] {
        [
            -1.05,
            0.65,
            -0.06,
            -1.7,
            0.1,
            -0.6,
            0.27,
            -1.09,
            -0.6,
            0.3,
            1.69,
            -0.75,
            -0.58,
            -0.11,
            2.04,
            0.447_520_7,
            0.683_384_24,
            0.022_885_974,
            0.857_234_3,
            0.183_930_58,
            -0.416_111_6,
            1.250_050_1,
            1.248_299_8,
            -0.757_674_16,
        ]
    }

    #[test]
    fn the_beam_search_finds_what_tensorflow_finds() {
        let attrs = [("beam_width", Attr::Int(10)), ("top_paths", Attr::Int(3)), ("merge_repeated", Attr::Bool(false))];
        let out = run("CTCBeamSearchDecoder", &attrs, &[t(&[4, 2, 3], &logits()), t(&[2], &[4i32, 3])]).unwrap();
        assert_eq!(v::<i64>(&out[3]), [1, 0, 1]);
        assert_eq!(v::<i64>(&out[4]), [1, 0, 0, 1, 0]);
        assert_eq!(v::<i64>(&out[5]), [0, 0, 0, 1]);
        let want = [-1.510_866_6f32, -1.787_112_2, -2.064_190_9, -0.775_709_4, -1.178_391_6, -2.477_600_3];
        assert!(v::<f32>(&out[9]).iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn repeated_labels_need_a_blank_between_them() {
        let one: Vec<f32> = logits().chunks(6).flat_map(|r| r[..3].to_vec()).collect();
        let loss = |n: usize, merge: bool| {
            let attrs = [
                ("preprocess_collapse_repeated", Attr::Bool(false)),
                ("ctc_merge_repeated", Attr::Bool(merge)),
                ("ignore_longer_outputs_than_inputs", Attr::Bool(false)),
            ];
            let indices: Vec<i64> = (0..n as i64).flat_map(|k| [0, k]).collect();
            let operands = [t(&[4, 1, 3], &one), t(&[n, 2], &indices), t(&[n], &vec![1i32; n]), t(&[1], &[4i32])];
            v::<f32>(&run("CTCLoss", &attrs, &operands).unwrap()[0])[0]
        };
        assert!((loss(2, true) - 2.59123).abs() < 1e-4);
        assert!((loss(2, false) - 2.755_014).abs() < 1e-4);
        assert!(loss(3, true).is_infinite());
    }
}
