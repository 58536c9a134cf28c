//! Attributes of nodes as host functions see them, and back.

use graphc_frontend::graph::Attrs as NodeAttrs;
use graphc_frontend::proto::attr_value::{ListValue, Value as Raw};
use graphc_frontend::proto::{AttrValue, NameAttrList};
use graphc_frontend::tensor::partial_shape;
use graphc_frontend::{DataType, Limits, Node, RawTensor, legalise};
use graphc_host::{Attr, Attrs, Function};
use graphc_ir::Elem;

/// A node's attributes, with the op's defaults for those that the file leaves out. What host functions cannot hold is left out.
pub fn of_node(node: &Node, limits: &Limits) -> Attrs {
    let mut out = Attrs::default();
    let declared = node.def.iter().flat_map(|d| d.attr.iter().map(|a| a.name.as_str()));
    for name in declared.chain(node.attrs.keys().map(String::as_str)) {
        if let Some(a) = node.attr(name).and_then(|a| value(a, limits)) {
            out.0.insert(name.to_owned(), a);
        }
    }
    out
}

fn elem(t: i32) -> Option<Elem> {
    DataType::from_number(t).and_then(legalise::elem_of)
}

fn value(a: &Raw, limits: &Limits) -> Option<Attr> {
    Some(match a {
        Raw::I(v) => Attr::Int(*v),
        Raw::F(v) => Attr::Float(*v),
        Raw::B(v) => Attr::Bool(*v),
        Raw::S(v) => Attr::Str(v.to_vec()),
        Raw::Type(t) => Attr::Elem(elem(*t)?),
        Raw::Shape(s) => Attr::Shape(partial_shape(s, limits).ok()?),
        Raw::Tensor(t) => Attr::Tensor(RawTensor::from_proto(t, limits).ok().and_then(|t| legalise::tensor(&t, limits).ok())?),
        Raw::Func(f) => Attr::Function(function(f, limits)),
        Raw::List(l) => Attr::List(list(l, limits)?),
        Raw::Placeholder(_) => return None,
    })
}

/// A list holds values of one kind.
fn list(l: &ListValue, limits: &Limits) -> Option<Vec<Attr>> {
    let mut out: Vec<Attr> = Vec::new();
    out.extend(l.i.iter().map(|&v| Attr::Int(v)));
    out.extend(l.f.iter().map(|&v| Attr::Float(v)));
    out.extend(l.b.iter().map(|&v| Attr::Bool(v)));
    out.extend(l.s.iter().map(|v| Attr::Str(v.to_vec())));
    out.extend(l.func.iter().map(|f| Attr::Function(function(f, limits))));
    for &t in &l.r#type {
        out.push(Attr::Elem(elem(t)?));
    }
    for s in &l.shape {
        out.push(Attr::Shape(partial_shape(s, limits).ok()?));
    }
    for t in &l.tensor {
        out.push(value(&Raw::Tensor(Box::new(t.clone())), limits)?);
    }
    Some(out)
}

fn function(f: &NameAttrList, limits: &Limits) -> Function {
    let attrs = f.attr.iter().filter_map(|(k, a)| Some((k.clone(), value(a.value.as_ref()?, limits)?)));
    Function { name: f.name.clone(), attrs: Attrs(attrs.collect()) }
}

/// The attributes that a function is instantiated with, as the graph's library takes them: types, numbers and strings.
pub fn of_function(f: &Function) -> NodeAttrs {
    let number = |e: Elem| legalise::dtype_of(e).map(DataType::number);
    let raw = |a: &Attr| {
        Some(match a {
            Attr::Int(v) => Raw::I(*v),
            Attr::Float(v) => Raw::F(*v),
            Attr::Bool(v) => Raw::B(*v),
            Attr::Str(v) => Raw::S(v.clone()),
            Attr::Elem(e) => Raw::Type(number(*e)?),
            Attr::List(l) => {
                let types: Option<Vec<i32>> = l.iter().map(|a| if let Attr::Elem(e) = a { number(*e) } else { None }).collect();
                Raw::List(Box::new(ListValue { r#type: types?, ..ListValue::default() }))
            }
            Attr::Shape(_) | Attr::Tensor(_) | Attr::Function(_) => return None,
        })
    };
    f.attrs.0.iter().filter_map(|(k, a)| Some((k.clone(), AttrValue { value: Some(raw(a)?) }))).collect()
}
