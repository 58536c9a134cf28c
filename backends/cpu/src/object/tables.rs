//! Tables of numbers, text and addresses, as one piece of read-only data.

use crate::error::CompileError;
use cranelift_module::{DataDescription, DataId, FuncId, Linkage, Module};
use graphc_abi::ALIGN;
use hashbrown::HashMap;

/// What a word of a table points to.
#[derive(Clone, Copy)]
pub enum Address {
    Function(FuncId),
    Data(DataId),
}

/// Bytes of a word.
pub const WORD: usize = 8;

/// Words of a table item.
pub const fn words<T>() -> usize {
    size_of::<T>() / WORD
}

enum Word {
    Number(i64),
    /// Null at first.
    Address(Option<Address>),
    /// Of another word of these tables.
    Own(usize),
    /// Of a byte of the text behind the words.
    Text(usize),
}

/// Words under construction; places are counted in words.
#[derive(Default)]
pub struct Tables {
    words: Vec<Word>,
    text: Vec<u8>,
    texts: HashMap<Box<[u8]>, usize>,
}

impl Tables {
    /// Room for so many words, all zero.
    pub fn reserve(&mut self, count: usize) -> usize {
        let at = self.words.len();
        self.words.extend((0..count).map(|_| Word::Address(None)));
        at
    }

    pub fn number(&mut self, at: usize, value: i64) {
        self.words[at] = Word::Number(value);
    }

    pub fn address(&mut self, at: usize, address: Address) {
        self.words[at] = Word::Address(Some(address));
    }

    /// The address of another word.
    pub fn own(&mut self, at: usize, to: usize) {
        self.words[at] = Word::Own(to);
    }

    /// The address of text, which ends with a zero byte; what follows a zero byte within it is cut off.
    pub fn text(&mut self, at: usize, text: &str) {
        let text = text.split('\0').next().unwrap_or_default();
        let key = [text.as_bytes(), &[0]].concat().into_boxed_slice();
        let place = self.content(key);
        self.words[at] = Word::Text(place);
    }

    /// A [`graphc_abi::model::List`] of bytes.
    pub fn bytes(&mut self, at: usize, bytes: &[u8]) {
        let place = self.content(bytes.into());
        self.words[at] = Word::Text(place);
        self.words[at + 1] = Word::Number(bytes.len() as i64);
    }

    fn content(&mut self, key: Box<[u8]>) -> usize {
        if let Some(&place) = self.texts.get(&key) {
            return place;
        }
        let place = self.text.len();
        self.text.extend_from_slice(&key);
        self.texts.insert(key, place);
        place
    }

    /// A [`graphc_abi::model::List`] of `count` items of type `T`; the places of the items.
    pub fn list<T>(&mut self, at: usize, count: usize) -> impl Iterator<Item = usize> + use<T> {
        let items = self.reserve(count * words::<T>());
        self.words[at] = Word::Own(items);
        self.words[at + 1] = Word::Number(count as i64);
        (0..count).map(move |k| items + k * words::<T>())
    }

    /// A [`graphc_abi::model::List`] of numbers.
    pub fn numbers(&mut self, at: usize, numbers: impl ExactSizeIterator<Item = i64>) {
        self.words[at] = Word::Own(self.words.len());
        self.words[at + 1] = Word::Number(numbers.len() as i64);
        self.words.extend(numbers.map(Word::Number));
    }

    /// Defines the tables as exported data of `module`; the first word is where the symbol points.
    ///
    /// # Errors
    /// If the module has such a symbol already.
    pub fn define(self, module: &mut impl Module, symbol: &str) -> Result<DataId, CompileError> {
        let id = module.declare_data(symbol, Linkage::Export, false, false)?;
        let text_at = self.words.len() * WORD;
        let mut bytes = vec![0u8; text_at];
        bytes.extend_from_slice(&self.text);
        let mut data = DataDescription::new();
        for (k, word) in self.words.iter().enumerate() {
            if let Word::Number(n) = word {
                bytes[k * WORD..(k + 1) * WORD].copy_from_slice(&n.to_le_bytes());
            }
        }
        data.define(bytes.into_boxed_slice());
        data.set_align(ALIGN as u64);
        let own = module.declare_data_in_data(id, &mut data);
        for (k, word) in self.words.into_iter().enumerate() {
            let at = (k * WORD) as u32;
            match word {
                Word::Number(_) | Word::Address(None) => {}
                Word::Address(Some(Address::Function(f))) => {
                    let f = module.declare_func_in_data(f, &mut data);
                    data.write_function_addr(at, f);
                }
                Word::Address(Some(Address::Data(d))) => {
                    let d = module.declare_data_in_data(d, &mut data);
                    data.write_data_addr(at, d, 0);
                }
                Word::Own(to) => data.write_data_addr(at, own, (to * WORD) as i64),
                Word::Text(to) => data.write_data_addr(at, own, (text_at + to) as i64),
            }
        }
        module.define_data(id, &data)?;
        Ok(id)
    }
}
