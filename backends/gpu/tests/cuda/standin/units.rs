//! What units beside the threads do: barriers in shared memory, copies of boxes of tensors and of pieces, and products of tiles where they lie.

use super::machine::{Machine, PARAMS, Thread};
use super::numbers::f32_of;
use super::program::{Instruction, Operand};
use super::races::{Clock, join};
use std::collections::HashMap;

/// A barrier in memory.
struct Barrier {
    count: u64,
    pending: u64,
    /// Bytes that are announced and not there, or there and not announced.
    bytes: i64,
    phase: u64,
    /// What arrivals of this phase have seen, and those of phases that ended.
    arriving: Clock,
    seen: Clock,
}

/// A piece that a thread has copied.
struct Piece {
    from: u64,
    to: usize,
    bytes: usize,
    /// Those of them that are read; the rest is zero.
    read: usize,
}

#[derive(Default)]
struct Own {
    /// Copies that are in no group yet, and groups that are under way.
    pieces: Vec<Piece>,
    groups: Vec<Vec<Piece>>,
    /// Whether registers are ordered before products, and whether products are under way.
    ordered: bool,
    multiplies: bool,
}

pub struct Units {
    barriers: HashMap<u64, Barrier>,
    own: Vec<Own>,
}

impl Units {
    pub fn new(threads: usize) -> Units {
        Units { barriers: HashMap::new(), own: (0..threads).map(|_| Own::default()).collect() }
    }
}

/// A tensor as the stand-in's driver describes it: in 128 bytes.
#[derive(Clone, Debug)]
pub struct Map {
    pub at: u64,
    pub extents: Vec<u64>,
    /// In bytes, of all axes but the first.
    pub strides: Vec<u64>,
    pub tile: Vec<u32>,
    /// Whether pieces of 16 bytes are exchanged in rows of 128.
    pub swizzled: bool,
}

const MARK: u32 = 0x7e57_ab1e;

impl Map {
    pub fn encoded(&self) -> [u8; 128] {
        let rank = self.extents.len();
        let mut words = vec![MARK, rank as u32 | u32::from(self.swizzled) << 8];
        let mut wide = |v: u64| words.extend([v as u32, (v >> 32) as u32]);
        wide(self.at);
        (0..5).for_each(|k| wide(self.extents.get(k).copied().unwrap_or(1)));
        (0..4).for_each(|k| wide(self.strides.get(k).copied().unwrap_or(0)));
        words.extend((0..5).map(|k| self.tile.get(k).copied().unwrap_or(1)));
        let mut bytes = [0; 128];
        bytes.chunks_exact_mut(4).zip(words).for_each(|(b, w)| b.copy_from_slice(&w.to_le_bytes()));
        bytes
    }

    fn decoded(bytes: &[u8]) -> Option<Map> {
        let words: Vec<u32> = bytes.get(..128)?.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let wide = |k: usize| u64::from(words[k]) | u64::from(words[k + 1]) << 32;
        let rank = (words[1] & 0xff) as usize;
        (words[0] == MARK && (1..=5).contains(&rank)).then(|| Map {
            at: wide(2),
            extents: (0..rank).map(|k| wide(4 + 2 * k)).collect(),
            strides: (0..rank - 1).map(|k| wide(14 + 2 * k)).collect(),
            tile: words[22..22 + rank].to_vec(),
            swizzled: words[1] >> 8 & 1 == 1,
        })
    }
}

/// Where byte `at` lies by a pattern of exchanged pieces of 16 bytes: 1 in rows of 128 bytes, 2 of 64, 3 of 32.
fn exchanged(at: u64, pattern: u64) -> u64 {
    let mask = match pattern {
        1 => 7,
        2 => 3,
        3 => 1,
        _ => 0,
    };
    at ^ (at >> 7 & mask) << 4
}

impl Machine<'_> {
    /// An instruction of one thread that has to do with units.
    pub fn of_units(&mut self, t: &mut Thread, i: &Instruction) -> Result<(), String> {
        let own = t.number as usize;
        let words: Vec<&str> = i.name.iter().map(String::as_str).collect();
        let at = |m: &Self, k: usize| m.value(t, i.operands.get(k).ok_or("an operand is missing")?);
        match words[..] {
            ["mbarrier", "init", ..] => {
                let (place, count) = (at(self, 0)?, at(self, 1)?);
                if place % 8 != 0 || place as usize + 8 > self.shared.len() || count == 0 {
                    return Err(format!("a barrier of {count} at {place}"));
                }
                let clock = self.races.clock(own).clone();
                let arriving = vec![0; clock.len()];
                self.units.barriers.insert(place, Barrier { count, pending: count, bytes: 0, phase: 0, arriving, seen: clock });
                Ok(())
            }
            ["mbarrier", "arrive", "expect_tx", ..] => {
                let (place, bytes) = (at(self, 1)?, at(self, 2)?);
                self.barrier(place)?.bytes += bytes as i64;
                self.arrive(own, place)
            }
            ["mbarrier", "arrive", ..] => {
                let place = at(self, 1)?;
                self.arrive(own, place)
            }
            ["fence", "mbarrier_init", ..] => Ok(()),
            ["fence", "proxy", "async", ..] => {
                self.races.fence(own);
                Ok(())
            }
            ["elect", "sync"] => {
                let Some(Operand::List(to)) = i.operands.first() else { return Err("elect of other operands".into()) };
                let leader = t.number / 32 * 32;
                Self::put(t, &to[0], leader % 32)?;
                Self::put(t, &to[1], u64::from(t.number == leader))
            }
            ["wgmma", "fence", ..] => {
                self.units.own[own].ordered = true;
                Ok(())
            }
            ["wgmma", "commit_group", ..] => Ok(()),
            ["wgmma", "wait_group", ..] => {
                if at(self, 0)? != 0 {
                    return Err("products that are not waited for".into());
                }
                (self.units.own[own].ordered, self.units.own[own].multiplies) = (false, false);
                Ok(())
            }
            ["cp", "async", "bulk", "tensor", ..] => {
                let (to, barrier) = (at(self, 0)?, at(self, 2)?);
                let Some(Operand::Box(map, coordinates)) = i.operands.get(1) else { return Err("a copy of no tensor".into()) };
                let map = self.value(t, map)?;
                let coordinates: Vec<i64> =
                    coordinates.iter().map(|o| self.value(t, o).map(|v| i64::from(v as u32 as i32))).collect::<Result<_, _>>()?;
                self.copy_box(own, to, map, &coordinates, barrier)
            }
            ["cp", "async", "commit_group"] => {
                let own = &mut self.units.own[own];
                own.groups.push(std::mem::take(&mut own.pieces));
                Ok(())
            }
            ["cp", "async", "wait_group"] => {
                let left = at(self, 0)? as usize;
                let n = self.units.own[own].groups.len();
                let ended: Vec<_> = self.units.own[own].groups.drain(..n.saturating_sub(left)).flatten().collect();
                ended.iter().try_for_each(|p| self.land(own, p))
            }
            ["cp", "async", "cg" | "ca", "shared", "global"] => {
                let (to, from, bytes) = (at(self, 0)? as usize, at(self, 1)?, at(self, 2)? as usize);
                let read = if i.operands.len() > 3 { at(self, 3)? as usize } else { bytes };
                if ![4, 8, 16].contains(&bytes) || words[2] == "cg" && bytes != 16 || read > bytes {
                    return Err(format!("a copy of {read} of {bytes} bytes"));
                }
                if to % bytes != 0 || from % bytes as u64 != 0 || to + bytes > self.shared.len() {
                    return Err(format!("a copy of {bytes} bytes from {from:#x} to {to:#x}"));
                }
                if read > 0 && !self.memory.holds(from, read) {
                    return Err(format!("{read} bytes at {from:#x} are not there"));
                }
                self.units.own[own].pieces.push(Piece { from, to, bytes, read });
                Ok(())
            }
            _ => Err("an instruction that this machine does not have".into()),
        }
    }

    /// What a thread has copied is there: not earlier than when it waits.
    fn land(&mut self, thread: usize, p: &Piece) -> Result<(), String> {
        self.races.touch(thread, p.to, p.bytes, true)?;
        let to = &mut self.shared[p.to..p.to + p.bytes];
        to.fill(0);
        // SAFETY: memory of the host that was there when the copy was asked for, and is until the kernel ends.
        to[..p.read].copy_from_slice(unsafe { std::slice::from_raw_parts(p.from as *const u8, p.read) });
        Ok(())
    }

    fn barrier(&mut self, at: u64) -> Result<&mut Barrier, String> {
        self.units.barriers.get_mut(&at).ok_or_else(|| format!("no barrier at {at}"))
    }

    fn arrive(&mut self, thread: usize, at: u64) -> Result<(), String> {
        if self.units.own[thread].multiplies {
            return Err("arrives while products are under way".into());
        }
        let clock = self.races.clock(thread).clone();
        self.races.release(thread);
        let b = self.barrier(at)?;
        join(&mut b.arriving, &clock);
        b.pending = b.pending.checked_sub(1).ok_or("more arrivals than a phase has")?;
        b.end();
        self.progress += 1;
        Ok(())
    }

    /// Whether the phase of a parity has ended; what came before its end is seen then.
    pub fn try_wait(&mut self, t: &mut Thread, i: &Instruction) -> Result<bool, String> {
        let [to, at, parity, ..] = &i.operands[..] else { return Err("a wait for nothing".into()) };
        let (at, parity) = (self.value(t, at)?, self.value(t, parity)?);
        let b = self.barrier(at)?;
        let ended = b.phase & 1 != parity & 1;
        if ended {
            let seen = b.seen.clone();
            self.races.acquire(t.number as usize, &seen);
            self.progress += 1;
        }
        Self::put(t, to, u64::from(ended))?;
        Ok(ended)
    }

    fn copy_box(&mut self, thread: usize, to: u64, map: u64, coordinates: &[i64], barrier: u64) -> Result<(), String> {
        let from = map.checked_sub(PARAMS).ok_or("a description that is no argument")? as usize;
        let map = self.arguments.get(from..).and_then(Map::decoded).ok_or("no description of a tensor")?;
        let row = map.tile[0] as usize * 4;
        let total = map.tile.iter().map(|&n| n as usize).product::<usize>() * 4;
        if coordinates.len() != map.extents.len() || to % if map.swizzled { 1024 } else { 128 } != 0 || to as usize + total > self.shared.len() {
            return Err(format!("a box of {total} bytes to {to:#x} with {} coordinates", coordinates.len()));
        }
        let mut bytes = vec![0; total];
        for (r, row) in bytes.chunks_exact_mut(row).enumerate() {
            // The place of the row in the tensor; the last axes turn slowest.
            let (mut left, mut at, mut inside) = (r, map.at, true);
            for k in 1..map.extents.len() {
                let c = coordinates[k] + (left % map.tile[k] as usize) as i64;
                left /= map.tile[k] as usize;
                inside &= (0..map.extents[k] as i64).contains(&c);
                at = at.wrapping_add_signed(c * map.strides[k - 1] as i64);
            }
            for (e, number) in row.chunks_exact_mut(4).enumerate() {
                let c = coordinates[0] + e as i64;
                if !inside || !(0..map.extents[0] as i64).contains(&c) {
                    continue;
                }
                let at = at + 4 * c as u64;
                if !self.memory.holds(at, 4) {
                    return Err(format!("a box reads 4 bytes at {at:#x}, which are not there"));
                }
                // SAFETY: memory of the host that is there, as was found.
                number.copy_from_slice(unsafe { std::slice::from_raw_parts(at as *const u8, 4) });
            }
        }
        let told = self.races.unit_writes(thread, barrier, to as usize, total)?;
        for (k, piece) in bytes.chunks(16).enumerate() {
            let at = exchanged(to + 16 * k as u64, u64::from(map.swizzled)) as usize;
            self.shared[at..at + piece.len()].copy_from_slice(piece);
        }
        let b = self.barrier(barrier)?;
        join(&mut b.arriving, &told);
        b.bytes -= total as i64;
        b.end();
        self.progress += 1;
        Ok(())
    }

    /// A product of tiles by a warpgroup.
    pub fn multiply(&mut self, group: &mut [Thread], i: &Instruction) -> Result<(), String> {
        let shape = i.name.iter().find_map(|w| w.strip_prefix("m64n")?.split_once('k')).ok_or("a product of no shape")?;
        let (columns, depth): (usize, usize) = (shape.0.parse().map_err(|_| "columns")?, shape.1.parse().map_err(|_| "a depth")?);
        let bf16 = i.name.iter().any(|n| n == "bf16");
        let [Operand::List(sums), left, right, scale, rest @ ..] = &i.operands[..] else { return Err("wgmma of other operands".into()) };
        let rest: Vec<u64> = rest.iter().map(|o| self.value(&group[0], o)).collect::<Result<_, _>>()?;
        let expect: &[u64] = if bf16 { &[1, 1, 0, 0] } else { &[1, 1] };
        if group.len() != 128 || rest != expect || sums.len() != columns / 2 || depth != if bf16 { 16 } else { 8 } || columns % 8 != 0 {
            return Err("wgmma of another shape".into());
        }
        let (x, w) = (self.value(&group[0], left)?, self.value(&group[0], right)?);
        for t in group.iter() {
            let own = &mut self.units.own[t.number as usize];
            if !own.ordered {
                return Err("products whose registers no fence orders".into());
            }
            own.multiplies = true;
            if (self.value(t, left)?, self.value(t, right)?) != (x, w) {
                return Err("threads of a warpgroup with other tiles".into());
            }
        }
        let first = group[0].number as usize;
        let left = self.tile(first, x, 64, depth, bf16)?;
        let right = self.tile(first, w, columns, depth, bf16)?;
        for t in group.iter_mut() {
            let (warp, lane) = ((t.number as usize % 128) / 32, t.number as usize % 32);
            let keep = self.value(t, scale)? & 1 == 1;
            for (r, o) in sums.iter().enumerate() {
                let row = 16 * warp + lane / 4 + 8 * (r / 2 % 2);
                let column = 8 * (r / 4) + lane % 4 * 2 + r % 2;
                let before = if keep { f32_of(self.value(t, o)?) } else { 0.0 };
                let sum = left[row].iter().zip(&right[column]).fold(before, |s, (x, w)| s + x * w);
                Self::put(t, o, u64::from(sum.to_bits()))?;
            }
        }
        Ok(())
    }

    /// The numbers of a tile that a descriptor describes, row by row: 32 bytes of depth.
    fn tile(&mut self, thread: usize, descriptor: u64, rows: usize, depth: usize, bf16: bool) -> Result<Vec<Vec<f32>>, String> {
        let (start, stride, pattern) = ((descriptor & 0x3fff) << 4, (descriptor >> 32 & 0x3fff) << 4, descriptor >> 62);
        let row_bytes = match pattern {
            1 => 128,
            2 => 64,
            p => return Err(format!("tiles with pattern {p}")),
        };
        if descriptor >> 49 & 7 != 0 || stride != 8 * row_bytes {
            return Err(format!("a descriptor {descriptor:#x}"));
        }
        let mut tile = Vec::new();
        for r in 0..rows as u64 {
            let mut row = Vec::new();
            for piece in 0..2 {
                let at = exchanged(start + r / 8 * stride + r % 8 * row_bytes + 16 * piece, pattern) as usize;
                if at + 16 > self.shared.len() {
                    return Err(format!("a tile at {at:#x}"));
                }
                self.races.unit_reads(thread, at, 16)?;
                for word in self.shared[at..at + 16].chunks_exact(4) {
                    let v = u64::from(u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
                    if bf16 {
                        row.extend([f32_of((v & 0xffff) << 16), f32_of(v & 0xffff_0000)]);
                    } else {
                        // The low bits of tf32 are not seen.
                        row.push(f32_of(v & !0x1fff));
                    }
                }
            }
            row.truncate(depth);
            tile.push(row);
        }
        Ok(tile)
    }

    /// Matrices of eight rows of 16 bytes, whose places the threads give, as fragments: each thread a word of row `lane / 4`.
    pub fn load_matrix(&mut self, warp: &mut [Thread], i: &Instruction) -> Result<(), String> {
        let [Operand::List(to), from] = &i.operands[..] else { return Err("ldmatrix of other operands".into()) };
        let wanted = i.name.iter().find_map(|w| w.strip_prefix('x')?.parse::<usize>().ok());
        if warp.len() != 32 || wanted != Some(to.len()) {
            return Err("ldmatrix of another shape".into());
        }
        let places = warp.iter().map(|t| self.value(t, from).map(|v| v as usize)).collect::<Result<Vec<_>, _>>()?;
        for (k, o) in to.iter().enumerate() {
            for (lane, t) in warp.iter_mut().enumerate() {
                let row = places[8 * k + lane / 4];
                if row % 16 != 0 || row + 16 > self.shared.len() {
                    return Err(format!("a row of 16 bytes at {row:#x}"));
                }
                let at = row + lane % 4 * 4;
                self.races.touch(t.number as usize, at, 4, false)?;
                let b = &self.shared[at..at + 4];
                Self::put(t, o, u64::from(u32::from_le_bytes([b[0], b[1], b[2], b[3]])))?;
            }
        }
        Ok(())
    }
}

impl Barrier {
    /// Begins the next phase when all is there.
    fn end(&mut self) {
        if self.pending == 0 && self.bytes == 0 {
            self.phase += 1;
            self.pending = self.count;
            join(&mut self.seen, &self.arriving);
        }
    }
}
