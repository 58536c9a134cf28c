//! Ops that TensorFlow registers to test itself with: handles to a resource that holds nothing, and waiting.

use crate::call::Call;
use crate::error::{HostError, invalid, not_found};
use crate::resources::ResourceKey;
use crate::value::{Resource, Value};
use crate::{Result, Table, values};
use graphc_ir::TfStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const TABLE: Table = &[
    ("StubResourceHandleOp", stub_handle),
    ("ResourceCreateOp", create),
    ("ResourceInitializedOp", is_initialized),
    ("ResourceUsingOp", using),
    ("SleepOp", sleep),
    ("SleepIdentityOp", sleep),
];

/// What a stub's handle refers to, whether or not the resource is there.
struct Stub(ResourceKey);

/// The resource of a stub.
struct Nothing;

fn stub_handle(call: &Call) -> Result {
    let text = |name: &str| call.attrs.text(name).unwrap_or_default();
    let key = ResourceKey { container: text("container"), kind: "stub", name: text("shared_name") };
    let name = key.name.as_str().into();
    Ok(vec![Value::Resource(Resource::Object { name, object: Arc::new(Stub(key)) })])
}

fn there(call: &Call, stub: &Stub) -> bool {
    call.host.resources.find::<Nothing>(&stub.0).is_some()
}

fn create(call: &Call) -> Result {
    let stub = call.object::<Stub>(0)?;
    if there(call, &stub) {
        return Err(HostError::new(
            TfStatus::AlreadyExists,
            format!("Resource {}/{} already exists", stub.0.container, stub.0.name),
        ));
    }
    call.host.resources.get_or_make(&stub.0, || Ok(Nothing))?;
    Ok(Vec::new())
}

fn is_initialized(call: &Call) -> Result {
    Ok(vec![values::scalar_bool(there(call, &*call.object::<Stub>(0)?))?])
}

fn using(call: &Call) -> Result {
    let stub = call.object::<Stub>(0)?;
    if there(call, &stub) { Ok(Vec::new()) } else { Err(not_found(format!("Resource {} does not exist", stub.0.name))) }
}

/// Waits for a number of seconds, or until the run is cancelled; then hands on what follows the number.
fn sleep(call: &Call) -> Result {
    let seconds = u64::try_from(call.int(0)?).map_err(|_| invalid("the time to sleep is negative"))?;
    let end = Instant::now() + Duration::from_secs(seconds.min(u32::MAX.into()));
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) {
        call.step.check()?;
        std::thread::sleep(left.min(Duration::from_millis(10)));
    }
    Ok(call.inputs.iter().skip(1).cloned().collect())
}

#[cfg(test)]
mod tests {
    use crate::attrs::Attr;
    use crate::testing::{run, t, v};

    #[test]
    fn a_stub_has_no_resource_of_its_own() {
        let named =
            |n: &str| run("StubResourceHandleOp", &[("shared_name", Attr::Str(n.as_bytes().to_vec()))], &[]).unwrap().remove(0);
        let there = run("ResourceInitializedOp", &[], &[named("a")]).unwrap();
        assert!(!there[0].as_tensor().unwrap().as_bools().unwrap()[0]);
        assert!(run("ResourceCreateOp", &[], &[named("a")]).unwrap().is_empty());
        assert!(run("ResourceUsingOp", &[], &[named("a")]).is_err());
    }

    #[test]
    fn tensors_of_handles_are_moved() {
        let named =
            |n: &str| run("StubResourceHandleOp", &[("shared_name", Attr::Str(n.as_bytes().to_vec()))], &[]).unwrap().remove(0);
        let both = run("Pack", &[("axis", Attr::Int(0))], &[named("a"), named("b")]).unwrap();
        assert_eq!(both[0].shape(), [2]);
        let second = run("GatherV2", &[], &[both[0].clone(), t(&[], &[1i32]), t(&[], &[0i32])]).unwrap();
        assert_eq!(second[0].as_handles().unwrap()[0].name(), "b");
    }

    #[test]
    fn sleeping_hands_on() {
        let out = run("SleepIdentityOp", &[], &[t(&[], &[0i32]), t(&[1], &[7i32])]).unwrap();
        assert_eq!(v::<i32>(&out[0]), [7]);
    }
}
