//! Two GPUs that hand values to one another, and to the CPU.

use crate::support::*;
use crate::traffic::alone;
use graphc::{DeviceName, Session, SessionOptions, Traffic};

#[test]
fn two_gpus_hand_values_on() {
    let _alone = alone();
    let gpus = [DeviceName::Gpu(0), DeviceName::Gpu(1)];
    let all = graphc::devices().0;
    let present = gpus.map(|g| all.iter().find(|d| d.name == g.to_string()));
    // With fewer, what asks for the second is on the first.
    let options = SessionOptions { device: gpus[0], soft_placement: present[1].is_none(), ..SessionOptions::default() };
    let folder = golden("pair");
    let session = Session::open(&folder.join("saved_model"), options).unwrap();
    let callable = session.signature(None).unwrap();
    let run = || {
        for reference in references(&folder) {
            let got = callable.run_tensors(&reference.inputs(&callable)).unwrap();
            let wrong = reference.differences(&callable, &got, 1e-4, "on two GPUs");
            assert!(wrong.is_empty(), "{wrong:?}");
        }
    };
    run();
    let [Some(first), Some(second)] = present else { return };
    let traffic = || gpus.map(|g| session.traffic(g).unwrap());
    let (before, rounds) = (traffic(), 2 * references(&folder).len() as u64);
    run();
    run();
    let moved = |f: fn(&Traffic) -> u64| [0, 1].map(|k| f(&traffic()[k]) - f(&before[k]));
    // Each reads one value of the other: past the host where one driver has both and allows it.
    let settings = std::env::var("GRAPHC_STANDIN").unwrap_or_default();
    let one_driver = first.description.contains("CUDA") && second.description.contains("CUDA");
    let direct = one_driver && !settings.contains("peers=0");
    let across = if direct { rounds } else { 0 };
    assert_eq!(moved(|t| t.across.values), [across; 2], "{}", callable.partition().unwrap());
    // The input goes to both; the first gives its output to the host, the second what the CPU sums up. Without a way past it, the host
    // gets what each makes for the other, but once.
    let other = if direct { 0 } else { rounds };
    assert_eq!(moved(|t| t.up.values), [rounds + other; 2], "{}", callable.partition().unwrap());
    assert_eq!(moved(|t| t.down.values), [rounds + other, rounds + other], "{}", callable.partition().unwrap());
}
