//! Branches and loops of the schedule function.
//!
//! What code knows on its way (values of dimensions, addresses, what argument blocks hold) counts only where that code has surely run.

use super::dims::Computed;
use super::schedule::{ArgBlock, Base, Schedule, record_launch};
use super::{Definer, codegen};
use crate::error::CompileError;
use cranelift_codegen::ir::types::{I8, I32, I64};
use cranelift_codegen::ir::{Block, InstBuilder, MemFlagsData, Value};
use graphc_abi::{Ctx, Status};
use graphc_passes::plan::{Buf, StepKind};
use hashbrown::HashMap;
use std::mem::offset_of;

/// What is known at one point of the code.
#[derive(Clone)]
pub(super) struct Facts {
    dims: Computed,
    bases: HashMap<Base, Value>,
    blocks: HashMap<String, ArgBlock>,
}

/// A branch or loop whose end has not come yet.
pub(super) enum Open {
    /// In the first branch: the block of the second, and what was known before.
    Then { otherwise: Block, before: Facts },
    /// In the second branch: the block after both, what was known before, and the argument blocks that the first branch left.
    Else { join: Block, before: Facts, then: HashMap<String, ArgBlock> },
    /// In the condition of a loop, which begins at `head`.
    Head { head: Block },
    /// In the body: what was known after the condition.
    Body { head: Block, after: Block, tested: Facts },
}

impl<M: Definer> Schedule<'_, '_, M> {
    pub(super) fn control(&mut self, kind: &StepKind, number: usize) -> Result<(), CompileError> {
        match (kind, self.open.pop()) {
            (StepKind::If { cond }, outer) => {
                self.open.extend(outer);
                let [then, otherwise] = [(); 2].map(|()| self.b.create_block());
                self.branch(*cond, then, otherwise)?;
                self.open.push(Open::Then { otherwise, before: self.facts() });
                self.b.switch_to_block(then);
            }
            (StepKind::Else, Some(Open::Then { otherwise, before })) => {
                let join = self.b.create_block();
                self.b.ins().jump(join, &[]);
                let then = std::mem::take(&mut self.blocks);
                self.know(before.clone());
                self.open.push(Open::Else { join, before, then });
                self.b.switch_to_block(otherwise);
            }
            (StepKind::EndIf, Some(Open::Else { join, before, then })) => {
                self.b.ins().jump(join, &[]);
                let blocks = meet(std::mem::take(&mut self.blocks), then);
                self.know(Facts { blocks, ..before });
                self.b.switch_to_block(join);
            }
            (StepKind::While, outer) => {
                self.open.extend(outer);
                // The loop comes back here with other arguments stored.
                self.blocks.values_mut().for_each(|b| b.holds.fill(None));
                let head = self.b.create_block();
                self.b.ins().jump(head, &[]);
                self.b.switch_to_block(head);
                self.check_cancelled(number);
                self.open.push(Open::Head { head });
            }
            (StepKind::Test { cond }, Some(Open::Head { head })) => {
                let [body, after] = [(); 2].map(|()| self.b.create_block());
                self.branch(*cond, body, after)?;
                self.open.push(Open::Body { head, after, tested: self.facts() });
                self.b.switch_to_block(body);
            }
            (StepKind::EndWhile, Some(Open::Body { head, after, tested })) => {
                self.b.ins().jump(head, &[]);
                let body = std::mem::take(&mut self.blocks);
                self.know(tested);
                for (name, mut block) in body {
                    block.holds.fill(None);
                    self.blocks.entry(name).or_insert(block);
                }
                self.b.switch_to_block(after);
            }
            _ => return Err(codegen(format!("step {number} closes what is not open"))),
        }
        Ok(())
    }

    fn branch(&mut self, cond: Buf, then: Block, otherwise: Block) -> Result<(), CompileError> {
        let at = self.start_of(cond)?;
        let c = self.b.ins().load(I8, MemFlagsData::trusted(), at, 0);
        self.b.ins().brif(c, then, &[], otherwise, &[]);
        Ok(())
    }

    fn facts(&self) -> Facts {
        Facts { dims: self.dims.computed(), bases: self.bases.clone(), blocks: self.blocks.clone() }
    }

    fn know(&mut self, facts: Facts) {
        self.dims.restore(facts.dims);
        self.bases = facts.bases;
        self.blocks = facts.blocks;
    }

    /// Leaves a cancelled run: a loop may have no launch that would.
    fn check_cancelled(&mut self, number: usize) {
        if !self.hooks {
            return;
        }
        let [check, go] = [(); 2].map(|()| self.b.create_block());
        let flag = self.b.ins().load(I64, MemFlagsData::trusted(), self.ctx, offset_of!(Ctx, cancel) as i32);
        self.b.ins().brif(flag, check, &[], go, &[]);
        self.b.switch_to_block(check);
        let set = self.b.ins().atomic_load(I32, MemFlagsData::trusted(), flag);
        let launch = self.b.ins().iconst(I64, number as i64);
        // What the record holds counts only if the run fails.
        record_launch(self.b, self.ctx, launch);
        let status = self.b.ins().iconst(I32, Status::Cancelled as i64);
        self.b.ins().brif(set, self.fail, &[status.into()], go, &[]);
        self.b.switch_to_block(go);
    }
}

/// Argument blocks after either of two ways: what they hold on both.
fn meet(mut blocks: HashMap<String, ArgBlock>, mut others: HashMap<String, ArgBlock>) -> HashMap<String, ArgBlock> {
    for (name, block) in &mut blocks {
        match others.remove(name) {
            // A block that was made on both ways has two slots; one goes unused.
            Some(other) if other.slot == block.slot => {
                block.holds.iter_mut().zip(other.holds).filter(|(a, b)| **a != *b).for_each(|(a, _)| *a = None);
            }
            _ => block.holds.fill(None),
        }
    }
    others.values_mut().for_each(|b| b.holds.fill(None));
    blocks.extend(others);
    blocks
}
