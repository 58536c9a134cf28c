//! Files: reading, writing and finding them, checkpoints of both versions.

mod bundle;
mod matching;
mod ops;
mod remap;
mod restore;
mod save;
mod slice;
mod slices_v1;
mod sstable;

pub(crate) use ops::file_error;

use crate::Table;

pub(crate) const TABLE: Table = &[
    ("ReadFile", ops::read_file),
    ("ImmutableConst", ops::immutable_const),
    ("WriteFile", ops::write_file),
    ("MatchingFiles", ops::matching_files),
    ("SaveV2", save::save_v2),
    ("Save", save::save),
    ("SaveSlices", save::save_slices),
    ("MergeV2Checkpoints", save::merge_v2_checkpoints),
    ("RestoreV2", restore::restore_v2),
    ("Restore", restore::restore),
    ("RestoreSlice", restore::restore_slice),
    ("GenerateVocabRemapping", remap::generate_vocab_remapping),
    ("LoadAndRemapMatrix", remap::load_and_remap_matrix),
];
