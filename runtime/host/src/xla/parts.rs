//! Tensors cut into a grid of equal parts, and put together again.

use crate::call::Call;
use crate::error::invalid;
use crate::limits;
use crate::value::{Resource, Value};
use crate::{Result, Table, shapes, values};

pub(crate) const TABLE: Table = &[
    ("XlaSplitND", split),
    ("XlaConcatND", concat),
    ("ReadVariableXlaSplitND", read_split),
    ("AssignVariableXlaConcatND", assign_concat),
];

/// The grid that attributes state, and how much of the last parts is padding.
struct Grid {
    parts: Vec<usize>,
    padding: Vec<usize>,
}

impl Grid {
    fn of(call: &Call, name: &str, n: i64) -> Result<Grid> {
        let parts = shapes::full_from_ints(&call.attrs.ints(name)?)?;
        let given = shapes::full_from_ints(&call.attrs.ints("paddings").unwrap_or_default())?;
        let count = limits::count(&parts)?;
        if parts.is_empty() || parts.contains(&0) || parts.len() > 8 {
            return Err(invalid(format!("{name} {parts:?} must be 1 to 8 positive numbers")));
        }
        if usize::try_from(n).ok() != Some(count) {
            return Err(invalid(format!("{name} {parts:?} makes {count} parts where there are {n}")));
        }
        let padding = if given.is_empty() { vec![0; parts.len()] } else { given };
        if padding.len() != parts.len() {
            return Err(invalid(format!("paddings {padding:?} for {name} {parts:?}")));
        }
        Ok(Grid { parts, padding })
    }

    /// Where each part begins, in order.
    fn starts(&self, part: &[usize]) -> Result<Vec<Vec<usize>>> {
        let mut out = Vec::new();
        values::positions(&self.parts, |at| {
            out.push(at.iter().zip(part).map(|(i, n)| i.saturating_mul(*n)).collect());
            0
        })?;
        Ok(out)
    }
}

fn cut(call: &Call, x: &Value) -> Result {
    let grid = Grid::of(call, "num_splits", call.attrs.int("N")?)?;
    let whole = x.shape();
    if whole.len() != grid.parts.len() {
        return Err(invalid(format!("num_splits {:?} for a value of shape {whole:?}", grid.parts)));
    }
    let mut part = Vec::with_capacity(whole.len());
    for ((&d, &n), &pad) in whole.iter().zip(&grid.parts).zip(&grid.padding) {
        let padded = d.checked_add(pad).ok_or_else(|| invalid("too much padding"))?;
        if padded % n != 0 {
            return Err(invalid(format!("a dimension of {d} padded by {pad} cannot be cut into {n} parts")));
        }
        part.push(padded / n);
    }
    let n = limits::count(whole)?;
    let zero = values::zeros(x.elem(), &[])?;
    let all = values::join(x.elem(), vec![n + 1], &[x, &zero])?;
    let one = |start: Vec<usize>| {
        let order = values::positions(&part, |at| {
            let mut flat = 0;
            for ((i, s), d) in at.iter().zip(&start).zip(whole) {
                if i + s >= *d {
                    return n;
                }
                flat = flat * d + i + s;
            }
            flat
        })?;
        values::take(&all, part.clone(), &order)
    };
    grid.starts(&part)?.into_iter().map(one).collect()
}

fn joined(call: &Call, inputs: &[Value]) -> Result<Value> {
    let grid = Grid::of(call, "num_concats", inputs.len() as i64)?;
    let first = inputs.first().ok_or_else(|| invalid("nothing to put together"))?;
    let part = first.shape();
    if part.len() != grid.parts.len() || inputs.iter().any(|v| v.shape() != part) {
        return Err(invalid(format!("all parts must have one shape of rank {}", grid.parts.len())));
    }
    let mut whole = Vec::with_capacity(part.len());
    for ((&d, &n), &pad) in part.iter().zip(&grid.parts).zip(&grid.padding) {
        let size = d.checked_mul(n).and_then(|size| size.checked_sub(pad)).filter(|_| pad <= d || d == 0);
        whole.push(size.ok_or_else(|| invalid(format!("padding of {pad} for parts of {d}")))?);
    }
    let size = limits::count(part)?;
    let all = values::join(first.elem(), vec![size * inputs.len()], &inputs.iter().collect::<Vec<_>>())?;
    let order = values::positions(&whole, |at| {
        let (mut which, mut inside) = (0, 0);
        for ((i, d), n) in at.iter().zip(part).zip(&grid.parts) {
            which = which * n + i / d;
            inside = inside * d + i % d;
        }
        which * size + inside
    })?;
    values::take(&all, whole, &order)
}

fn split(call: &Call) -> Result {
    cut(call, call.input(0)?)
}

fn concat(call: &Call) -> Result {
    Ok(vec![joined(call, call.inputs)?])
}

fn read_split(call: &Call) -> Result {
    let (_, value) = call.variable_value(0)?;
    cut(call, &value)
}

fn assign_concat(call: &Call) -> Result {
    let Resource::Variable(name) = call.resource(0)? else { return Err(invalid("operand 0 is no variable")) };
    call.variables.assign(name, joined(call, call.inputs.get(1..).unwrap_or_default())?)?;
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use crate::attrs::Attr;
    use crate::testing::{run, t, v};

    fn numbers(v: &[i64]) -> Attr {
        Attr::List(v.iter().map(|&v| Attr::Int(v)).collect())
    }

    #[test]
    fn parts_make_the_whole_again() {
        let x = t(&[2, 3], &[1, 2, 3, 4, 5, 6]);
        let attrs = [
            ("N", Attr::Int(2)),
            ("num_splits", numbers(&[1, 2])),
            ("num_concats", numbers(&[1, 2])),
            ("paddings", numbers(&[0, 1])),
        ];
        let parts = run("XlaSplitND", &attrs, std::slice::from_ref(&x)).unwrap();
        assert_eq!(v::<i32>(&parts[1]), [3, 0, 6, 0]);
        assert_eq!(v::<i32>(&run("XlaConcatND", &attrs, &parts).unwrap()[0]), v::<i32>(&x));
        assert!(run("XlaSplitND", &[("N", Attr::Int(2)), ("num_splits", numbers(&[1, 2]))], &[x]).is_err());
    }
}
