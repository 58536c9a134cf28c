//! Binary protobuf: a scan that bounds what decoding will allocate, then prost.

use crate::error::{ErrorKind, Result};
use crate::limits::Limits;
use crate::proto::{Kind, MESSAGES, message_index};
use bytes::{Buf, Bytes};
use prost::Message;

/// The nesting of messages that prost decodes.
const PROST_NESTING: usize = 100;

/// Decodes a message, after counting its submessages where there may be too many. Large `bytes` fields share the given buffer.
pub(crate) fn decode<M: Message + Default>(bytes: Bytes, name: &'static str, limits: &Limits) -> Result<M> {
    let bad = |detail: String| ErrorKind::Protobuf { message: name.trim_start_matches("graphc.tf."), detail };
    let index = message_index(name).ok_or_else(|| bad("no such message".into()))?;
    // Each message takes two bytes at least, and prost itself bounds their nesting.
    if bytes.len() / 2 >= limits.max_messages || limits.max_nesting < PROST_NESTING {
        let count = count_messages(&bytes, index, limits).map_err(bad)?;
        if count > limits.max_messages {
            let limit = limits.max_messages;
            return Err(ErrorKind::TooMany { what: "protobuf messages", count, limit, name: "max_messages" }.into());
        }
    }
    M::decode(bytes).map_err(|e| bad(e.to_string()).into())
}

/// One field on the wire.
pub(crate) struct WireField<'a> {
    pub number: u32,
    /// The payload of a length-delimited field.
    pub payload: Option<&'a [u8]>,
}

/// Takes one field off the front of `rest`. Groups are refused; nothing here has them.
pub(crate) fn next_field<'a>(rest: &mut &'a [u8]) -> Result<WireField<'a>, &'static str> {
    let key = prost::encoding::decode_varint(rest).map_err(|_| "a field key is cut off")?;
    let number = u32::try_from(key >> 3).ok().filter(|&n| n > 0 && n < 1 << 29).ok_or("a field number is out of range")?;
    let skip = |rest: &mut &'a [u8], n: usize| -> Result<&'a [u8], &'static str> {
        let (head, tail) = rest.split_at_checked(n).ok_or("a field is cut off")?;
        *rest = tail;
        Ok(head)
    };
    let payload = match key & 7 {
        0 => {
            prost::encoding::decode_varint(rest).map_err(|_| "a number is cut off")?;
            None
        }
        1 => skip(rest, 8).map(|_| None)?,
        5 => skip(rest, 4).map(|_| None)?,
        2 => {
            let len = prost::encoding::decode_varint(rest).map_err(|_| "a length is cut off")?;
            let len = usize::try_from(len).map_err(|_| "a length is out of range")?;
            Some(skip(rest, len)?)
        }
        _ => return Err("a wire type that protobuf files of TensorFlow do not use"),
    };
    Ok(WireField { number, payload })
}

/// Counts submessages and strings, which is what decoding allocates for beyond the bytes themselves.
fn count_messages(bytes: &[u8], message: usize, limits: &Limits) -> Result<usize, String> {
    let mut count = 1usize;
    let mut stack: Vec<(&[u8], usize)> = vec![(bytes, message)];
    while let Some((rest, message)) = stack.last_mut() {
        if !rest.has_remaining() {
            stack.pop();
            continue;
        }
        let field = next_field(rest)?;
        let Some(payload) = field.payload else { continue };
        let known = MESSAGES[*message].fields.iter().find(|f| f.number == field.number).map(|f| f.kind);
        if let Some(Kind::Message(inner)) = known {
            if stack.len() > limits.max_nesting {
                return Err(format!("messages nest deeper than the {} of Limits::max_nesting", limits.max_nesting));
            }
            count += 1;
            stack.push((payload, inner));
        } else if matches!(known, Some(Kind::String | Kind::Bytes)) {
            count += 1;
        }
        if count > limits.max_messages {
            break;
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{GraphDef, name};

    #[test]
    fn many_empty_messages_are_refused_before_they_are_decoded() {
        let bytes = Bytes::from([0x0a, 0x00].repeat(1000));
        let limits = Limits { max_messages: 500, ..Limits::default() };
        let e = decode::<GraphDef>(bytes.clone(), name::GRAPH, &limits).unwrap_err();
        assert_eq!(e.code(), "GC0106");
        assert_eq!(decode::<GraphDef>(bytes, name::GRAPH, &Limits::default()).unwrap().node.len(), 1000);
    }

    #[test]
    fn deep_nesting_is_refused() {
        // list { func { attr { value { list { func { …
        let mut bytes = vec![];
        for _ in 0..2000 {
            for tag in [0x12, 0x0a, 0x4a, 0x12, 0x0a] {
                let mut outer = vec![tag];
                prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
                outer.extend_from_slice(&bytes);
                bytes = outer;
            }
            if bytes.len() > 20_000 {
                break;
            }
        }
        assert!(decode::<GraphDef>(bytes.into(), name::GRAPH, &Limits::default()).is_err());
    }
}
