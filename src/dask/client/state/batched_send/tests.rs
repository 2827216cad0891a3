use proptest::prelude::*;

use super::*;
use crate::dask::wire::graph::{Arg, Call};

fn key(name: &str) -> Arc<str> {
    name.into()
}

fn rust(name: &str, inputs: &[&str]) -> Op {
    let inputs = inputs.iter().map(|input| key(input)).collect();
    let call = Call::Rust { function: "f".into(), args: Default::default(), inputs };
    Op::Submit(TaskSpec { key: key(name), call, annotations: Arc::default(), is_alone: false })
}

fn python(name: &str, function: &str) -> Op {
    let args = vec![Arg::List(vec![Arg::Result(key("input"))])];
    let call = Call::Python { module: "m".into(), name: function.into(), args };
    Op::Submit(TaskSpec { key: key(name), call, annotations: Arc::default(), is_alone: false })
}

/// Returns the operations of a message, in the order in which the scheduler handles them.
fn operations(message: &BatchedMessage) -> Vec<String> {
    let probe = message.first_probe.iter().map(|key| format!("report {key}"));
    let submits = message.graphs.iter().flatten().map(|spec| format!("submit {}", spec.key));
    let releases = message.releases.iter().map(|key| format!("release {key}"));
    probe
        .chain(submits)
        .chain(releases)
        .chain(message.reports.iter().map(|key| format!("report {key}")))
        .collect()
}

fn drain(batched: &mut BatchedSend) -> Vec<String> {
    std::iter::from_fn(|| batched.next_message()).flat_map(|message| operations(&message)).collect()
}

#[test]
fn each_python_function_has_a_graph_of_its_own() {
    let mut batched = BatchedSend::default();
    [rust("a", &[]), rust("b", &[]), python("c", "f"), python("d", "f"), python("e", "g")]
        .into_iter()
        .for_each(|op| batched.push(op));
    let message = batched.next_message().unwrap();
    let sizes: Vec<_> = message.graphs.iter().map(Vec::len).collect();
    assert_eq!(sizes, [2, 2, 1]);
    assert!(batched.next_message().is_none());
}

#[test]
fn messages_have_limits() {
    let mut batched = BatchedSend::default();
    for at in 0..5_000 {
        batched.push(rust(&format!("f-{at}"), &[]));
    }
    let tasks: Vec<_> =
        std::iter::from_fn(|| batched.next_message()).map(|message| message.tasks).collect();
    assert_eq!(tasks, [2_000, 2_000, 1_000]);
    for at in 0..3 {
        let Op::Submit(mut spec) = rust(&format!("f-{at}"), &[]) else { unreachable!() };
        let args = vec![0; 3 << 20].into();
        spec.call = Call::Rust { function: "f".into(), args, inputs: Vec::new() };
        batched.push(Op::Submit(spec));
    }
    let tasks: Vec<_> =
        std::iter::from_fn(|| batched.next_message()).map(|message| message.tasks).collect();
    assert_eq!(tasks, [1, 1, 1]);
}

#[test]
fn dependents_of_a_lost_result_are_dropped() {
    let mut batched = BatchedSend::default();
    batched.block(&key("data"));
    [rust("a", &["data"]), rust("b", &[]), rust("c", &["a", "b"]), rust("d", &["b"])]
        .into_iter()
        .for_each(|op| batched.push(op));
    let mut keys = HashSet::from([key("data")]);
    batched.drop_dependents(&mut keys);
    batched.unblock(&[key("data")]);
    assert_eq!(keys, ["data", "a", "c"].into_iter().map(key).collect());
    assert_eq!(drain(&mut batched), ["submit b", "submit d"]);
}

#[test]
fn unneeded_tasks_are_dropped_while_they_are_held() {
    let cases: [(&[Op], &[&str], &[&str]); 5] = [
        (&[rust("p", &[]), release("p")], &[], &[]),
        (
            &[rust("p", &[]), rust("a", &["p"]), release("p")],
            &["p"],
            &["submit p", "submit a", "release p"],
        ),
        (&[rust("p", &[]), rust("a", &["p"]), release("p"), release("a")], &[], &[]),
        (&[rust("p", &[]), release("p"), rust("p", &[])], &["p", "p"], &["submit p"]),
        (
            // The first one has a dependent.
            &[rust("p", &[]), rust("a", &["p"]), release("p"), rust("p", &[]), release("p")],
            &["p", "p"],
            &["submit p", "submit a", "release p"],
        ),
    ];
    for (ops, waiting, expected) in cases {
        let mut batched = BatchedSend::default();
        let mut keys = Vec::new();
        for op in ops {
            if let Op::Submit(spec) = op {
                if &*spec.key == "p" {
                    batched.block(&spec.key);
                    keys.push(spec.key.clone());
                }
            }
            batched.push(copy(op));
        }
        batched.drop_unneeded(&mut keys);
        assert_eq!(keys.iter().map(|key| &**key).collect::<Vec<_>>(), waiting);
        assert!(drain(&mut batched).is_empty());
        batched.unblock(&keys);
        assert!(batched.blockers.is_empty() && batched.blocked.is_empty());
        assert_eq!(drain(&mut batched), expected);
    }
}

fn is_probe(text: &str) -> bool {
    text.starts_with("report (ensue asks)")
}

#[test]
fn the_scheduler_is_probed_where_a_released_key_is_used_again_and_after_many_releases() {
    let mut batched = BatchedSend::default();
    let submit_and_release = |batched: &mut BatchedSend, name: &str| {
        batched.push(rust(name, &[]));
        batched.push(release(name));
        drain(batched)
    };
    for at in 0..9_999 {
        let sent = submit_and_release(&mut batched, &format!("f-{at}"));
        assert_eq!(sent, [format!("submit f-{at}"), format!("release f-{at}")]);
    }
    let sent = submit_and_release(&mut batched, "last");
    assert_eq!(sent, ["submit last", "release last", "report (ensue asks) 1"]);
    // Nothing was released since the probe.
    batched.push(Op::Heartbeat);
    assert!(batched.next_message().is_some_and(|message| message.reports.is_empty()));

    let sent = submit_and_release(&mut batched, "last");
    assert_eq!(sent, ["submit last", "release last"]);
    let sent = submit_and_release(&mut batched, "last");
    assert_eq!(sent, ["report (ensue asks) 2", "submit last", "release last"]);
    batched.push(Op::Heartbeat);
    assert_eq!(drain(&mut batched), ["report (ensue asks) 3"]);
    assert!(batched.is_released("last"));
    assert!(batched.unknown_key("(ensue asks) 3"));
    assert!(!batched.is_released("last") && !batched.is_released("f-0"));
}

#[test]
fn a_scatter_of_a_released_key_waits_for_the_probe() {
    let mut batched = BatchedSend::default();
    let value = || Serialized::msgpack(vec![0x01].into());
    batched.push(rust("x", &[]));
    batched.push(release("x"));
    assert_eq!(drain(&mut batched), ["submit x", "release x"]);
    batched.push(Op::Scatter(key("x"), value()));
    assert!(!batched.has_scatters());
    assert_eq!(drain(&mut batched), ["report (ensue asks) 1"]);
    assert!(batched.unknown_key("(ensue asks) 1"));
    assert!(batched.has_scatters());
}

fn release(name: &str) -> Op {
    Op::Release(key(name))
}

fn copy(op: &Op) -> Op {
    match op {
        Op::Submit(spec) => Op::Submit(spec.clone()),
        Op::Release(key) => Op::Release(key.clone()),
        other => unreachable!("{other:?}"),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Submit(usize, Vec<usize>),
    Release(usize),
    Report(usize),
    Block(usize),
    Unblock(usize),
    Take,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..5usize;
    prop_oneof![
        (key.clone(), prop::collection::vec(key.clone(), 0..3))
            .prop_map(|(key, inputs)| Step::Submit(key, inputs)),
        key.clone().prop_map(Step::Release),
        key.clone().prop_map(Step::Report),
        key.clone().prop_map(Step::Block),
        key.prop_map(Step::Unblock),
        Just(Step::Take),
    ]
}

proptest! {
    /// However long operations are held, those of one key stay in order, and none overtakes one that it depends on.
    #[test]
    fn no_operation_overtakes_one_that_it_depends_on(steps in prop::collection::vec(step(), 0..60)) {
        let name = |at: usize| format!("k{at}");
        let (mut batched, mut live) = (BatchedSend::default(), [0u32; 5]);
        // Of each pushed operation: its text, its key, and its inputs.
        let (mut pushed, mut sent) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Submit(at, inputs) if live[at] == 0 => {
                    let inputs: Vec<_> =
                        inputs.into_iter().filter(|input| live[*input] > 0).collect();
                    let names: Vec<_> = inputs.iter().map(|at| name(*at)).collect();
                    let names: Vec<_> = names.iter().map(String::as_str).collect();
                    batched.push(rust(&name(at), &names));
                    live[at] = 1;
                    pushed.push((format!("submit {}", name(at)), at, inputs));
                }
                Step::Release(at) if live[at] > 0 => {
                    batched.push(Op::Release(key(&name(at))));
                    live[at] = 0;
                    pushed.push((format!("release {}", name(at)), at, vec![]));
                }
                Step::Report(at) if live[at] > 0 => {
                    batched.push(Op::ReportKey(key(&name(at))));
                    pushed.push((format!("report {}", name(at)), at, vec![]));
                }
                Step::Block(at) if live[at] > 0 => batched.block(&key(&name(at))),
                Step::Unblock(at) => batched.unblock(&[key(&name(at))]),
                Step::Take => sent.extend(batched.next_message().iter().flat_map(operations)),
                _ => {}
            }
        }
        while let Some(key) = batched.blockers.keys().next().cloned() {
            batched.unblock(&[key]);
        }
        sent.extend(drain(&mut batched));
        // Between a release and the next task of its key there is a probe.
        let mut unprobed = HashSet::new();
        for text in &sent {
            match text.split_once(' ') {
                Some(("release", key)) => drop(unprobed.insert(key)),
                Some(("submit", key)) => prop_assert!(!unprobed.contains(key), "{:?}", sent),
                _ if is_probe(text) => unprobed.clear(),
                _ => {}
            }
        }
        sent.retain(|text| !is_probe(text));
        let mut all: Vec<_> = pushed.iter().map(|(text, ..)| text.clone()).collect();
        let mut sorted = sent.clone();
        all.sort();
        sorted.sort();
        prop_assert_eq!(all, sorted);
        // Equal operations stay in order, so the n-th of them in the messages is the n-th that was pushed.
        let mut places: Vec<usize> = Vec::new();
        for (at, (text, ..)) in pushed.iter().enumerate() {
            let before = pushed[..at].iter().filter(|(other, ..)| other == text).count();
            let place = sent.iter().enumerate().filter(|(_, other)| *other == text).nth(before);
            places.push(place.unwrap().0);
        }
        for (b, (text, own, inputs)) in pushed.iter().enumerate() {
            for (a, (other, other_own, other_inputs)) in pushed[..b].iter().enumerate() {
                let needs = own == other_own
                    || inputs.contains(other_own) && other.starts_with("submit")
                    || text.starts_with("release") && other_inputs.contains(own);
                // Two reports may overtake each other, and so may a report and a dependent's submission.
                prop_assert!(!needs || places[a] < places[b], "{} before {}", text, other);
            }
        }
    }
}
