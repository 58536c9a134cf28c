//! Control flow that runs one by one: branches and loops of which a part is not compiled.

use super::{MOST_CALLS, Run, Staged, attrs, failed, locked};
use crate::error::{Error, Result};
use graphc_frontend::Node;
use graphc_frontend::graph::Attrs as NodeAttrs;
use graphc_frontend::proto::NameAttrList;
use graphc_host::{Caller, Control, Function, HostError, Step, Value};
use graphc_ir::TfStatus;
use std::sync::Arc;

/// Lets host functions call functions of the graph's library.
pub struct Functions<'a> {
    pub staged: &'a Staged,
    pub run: Run<'a>,
}

impl Caller for Functions<'_> {
    fn call(&self, function: &Function, inputs: Vec<Value>, step: &Step<'_>) -> Result<Vec<Value>, HostError> {
        let run = Run { step, ..self.run };
        let outputs = self.staged.call(&function.name, &attrs::of_function(function), inputs, run);
        outputs.map_err(|e| HostError::new(TfStatus::from_code(e.status()).unwrap_or(TfStatus::Internal), e.to_string()))
    }
}

impl Staged {
    /// A function of the library.
    ///
    /// # Errors
    /// If there is none of that name, or it has what neither compiles nor runs alone.
    pub(super) fn function(&self, name: &str, attrs: &NodeAttrs) -> Result<Arc<Staged>> {
        let key = format!("{name} {attrs:?}");
        if let Some(known) = locked(&self.functions).get(&key) {
            return Ok(known.clone());
        }
        let graph = self.shared.model()?.function_inlined(name, attrs)?;
        let scope = format!("{}{name}/", self.scope);
        let body = Arc::new(Staged::new(self.shared.clone(), graph, &scope, super::Choices::default())?);
        Ok(locked(&self.functions).entry(key).or_insert(body).clone())
    }

    /// The results of a function of the library.
    fn call(&self, name: &str, attrs: &NodeAttrs, inputs: Vec<Value>, run: Run) -> Result<Vec<Value>> {
        if run.depth >= MOST_CALLS {
            return Err(failed(name, TfStatus::Unimplemented, format!("more than {MOST_CALLS} calls within calls")));
        }
        let body = self.function(name, attrs)?;
        if body.graph.inputs.len() != inputs.len() {
            let message = format!("{} arguments for the {} of {name:?}", inputs.len(), body.graph.inputs.len());
            return Err(failed(name, TfStatus::InvalidArgument, message));
        }
        body.execute(inputs, Run { depth: run.depth + 1, ..run })
    }

    /// Runs a node whose functions are called here.
    pub(super) fn control(&self, node: &Node, inputs: Vec<Value>, run: Run) -> Result<Vec<Value>> {
        let own = |e: HostError| failed(&node.name, e.status, e.message);
        let control = of_node(node)?.ok_or_else(|| own(graphc_host::internal(format!("{} calls no function", node.op))))?;
        control.run(inputs, run.step, |f, inputs| self.call(&f.name, &f.attr, inputs, run), own)
    }
}

/// The control flow of a node, if it is one that calls functions.
///
/// # Errors
/// If the attributes that name them are missing.
pub fn of_node(node: &Node) -> Result<Option<Control<NameAttrList>>> {
    let function = |name: &str| node.attr_func(name).cloned().map_err(Error::from);
    let functions = |name: &str| node.attr_funcs(name).map(|f| f.to_vec()).map_err(Error::from);
    Control::of(&node.op, function, functions)
}
