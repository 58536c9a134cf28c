use crate::error::{ErrorKind, Result};
use crate::limits::Limits;
use crate::proto::SavedModel;
use bytes::Bytes;
pub(crate) fn read_saved_model(_b: Bytes, _l: &Limits) -> Result<SavedModel> {
    Err(ErrorKind::Chunked { detail: "x".into() }.into())
}
