//! Conditions under which a value of a dataflow graph is live: decision diagrams over the predicates of switches.
//!
//! Diagrams are kept once each, so equal conditions are equal numbers: that two branches together are everything needs no proof.

use hashbrown::HashMap;
use std::collections::BTreeSet;

/// A condition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Form(u32);

impl Form {
    pub const NEVER: Form = Form(0);
    pub const ALWAYS: Form = Form(1);

    /// Neither always nor never.
    pub fn is_open(self) -> bool {
        self.0 > 1
    }
}

/// A predicate, in the order in which they are met.
pub type Var = u32;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Split {
    var: Var,
    /// What is left of the condition for each value of the predicate.
    arms: Box<[Form]>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Join {
    And,
    Or,
}

/// All conditions of a graph.
pub struct Forms {
    splits: Vec<Split>,
    /// How many predicates a condition looks at, one after another.
    depths: Vec<u32>,
    index: HashMap<Split, Form>,
    joined: HashMap<(Join, Form, Form), Form>,
    restricted: HashMap<(Form, Var, u32), Form>,
}

/// The conditions are too many, or look at too many predicates.
#[derive(Debug)]
pub struct TooLarge;

const MOST_SPLITS: usize = 1 << 18;
const MOST_DEPTH: u32 = 200;

impl Default for Forms {
    fn default() -> Forms {
        // The two leaves have no predicate; nothing looks into them.
        let leaf = || Split { var: Var::MAX, arms: Box::default() };
        let (index, joined, restricted) = Default::default();
        Forms { splits: vec![leaf(), leaf()], depths: vec![0, 0], index, joined, restricted }
    }
}

impl Forms {
    /// That a predicate with so many values has one of them.
    pub fn equals(&mut self, var: Var, value: u32, values: u32) -> Result<Form, TooLarge> {
        let arm = |k| if k == value { Form::ALWAYS } else { Form::NEVER };
        self.split(var, (0..values).map(arm).collect())
    }

    pub fn and(&mut self, a: Form, b: Form) -> Result<Form, TooLarge> {
        self.join(Join::And, a, b)
    }

    pub fn or(&mut self, a: Form, b: Form) -> Result<Form, TooLarge> {
        self.join(Join::Or, a, b)
    }

    /// The condition where a predicate is known.
    pub fn given(&mut self, form: Form, var: Var, value: u32) -> Result<Form, TooLarge> {
        let Some(split) = self.splits.get(form.0 as usize).filter(|s| form.is_open() && s.var <= var) else { return Ok(form) };
        if split.var == var {
            return Ok(split.arms.get(value as usize).copied().unwrap_or(Form::NEVER));
        }
        if let Some(&known) = self.restricted.get(&(form, var, value)) {
            return Ok(known);
        }
        let (at, arms) = (split.var, split.arms.clone());
        let arms = arms.iter().map(|&a| self.given(a, var, value)).collect::<Result<_, _>>()?;
        let made = self.split(at, arms)?;
        self.restricted.insert((form, var, value), made);
        Ok(made)
    }

    /// The predicates that a condition looks at, in order.
    pub fn vars(&self, form: Form) -> BTreeSet<Var> {
        let (mut vars, mut seen, mut stack) = (BTreeSet::new(), BTreeSet::new(), vec![form]);
        while let Some(f) = stack.pop() {
            if let Some(split) = self.splits.get(f.0 as usize).filter(|_| f.is_open())
                && seen.insert(f)
            {
                vars.insert(split.var);
                stack.extend(&split.arms);
            }
        }
        vars
    }

    fn split(&mut self, var: Var, arms: Box<[Form]>) -> Result<Form, TooLarge> {
        if let Some((&first, rest)) = arms.split_first()
            && rest.iter().all(|&a| a == first)
        {
            return Ok(first);
        }
        let depth = 1 + arms.iter().filter_map(|a| self.depths.get(a.0 as usize)).max().copied().unwrap_or(0);
        let split = Split { var, arms };
        if let Some(&known) = self.index.get(&split) {
            return Ok(known);
        }
        if self.splits.len() >= MOST_SPLITS || depth > MOST_DEPTH {
            return Err(TooLarge);
        }
        let form = Form(self.splits.len() as u32);
        self.splits.push(split.clone());
        self.depths.push(depth);
        self.index.insert(split, form);
        Ok(form)
    }

    fn join(&mut self, how: Join, a: Form, b: Form) -> Result<Form, TooLarge> {
        let (neutral, all) = match how {
            Join::And => (Form::ALWAYS, Form::NEVER),
            Join::Or => (Form::NEVER, Form::ALWAYS),
        };
        match (a, b) {
            _ if a == b || b == neutral => return Ok(a),
            _ if a == neutral => return Ok(b),
            _ if a == all || b == all => return Ok(all),
            _ => {}
        }
        let key = (how, a.min(b), a.max(b));
        if let Some(&known) = self.joined.get(&key) {
            return Ok(known);
        }
        let (x, y) = (self.splits[a.0 as usize].clone(), self.splits[b.0 as usize].clone());
        let var = x.var.min(y.var);
        let values = if x.var == var { x.arms.len() } else { y.arms.len() };
        let arm =
            |s: &Split, whole: Form, k: usize| if s.var == var { s.arms.get(k).copied().unwrap_or(Form::NEVER) } else { whole };
        let arms = (0..values).map(|k| self.join(how, arm(&x, a, k), arm(&y, b, k))).collect::<Result<_, _>>()?;
        let made = self.split(var, arms)?;
        self.joined.insert(key, made);
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_conditions_are_one() {
        let mut f = Forms::default();
        let [t, e] = [1, 0].map(|k| f.equals(0, k, 2).unwrap());
        let [a, b] = [0, 1].map(|k| f.equals(1, k, 2).unwrap());
        assert_eq!(f.or(t, e).unwrap(), Form::ALWAYS);
        assert_eq!(f.and(t, e).unwrap(), Form::NEVER);
        let (ta, tb) = (f.and(t, a).unwrap(), f.and(b, t).unwrap());
        assert!(ta != tb && f.or(ta, tb).unwrap() == t);
        assert_eq!(f.given(ta, 1, 0).unwrap(), t);
        assert_eq!(f.given(ta, 0, 0).unwrap(), Form::NEVER);
        assert_eq!(f.vars(ta).into_iter().collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn conditions_stay_small_or_are_refused() {
        let mut f = Forms::default();
        let mut all = Form::ALWAYS;
        let outcome = (0..10_000).try_for_each(|v| {
            let one = f.equals(v, 1, 2)?;
            all = f.and(all, one)?;
            Ok::<_, TooLarge>(())
        });
        assert!(outcome.is_err());
    }
}
