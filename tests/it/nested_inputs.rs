//! Inputs in containers of containers, beside plain values (promise 2).

use std::collections::{BTreeMap, HashMap};

use ensue::{Client, Engine, Error, ErrorKind, Handle, Ref, Settled, settled};
use support::observe::{Counted, Counts};
use support::{bounded, client_of, run_until_idle};

/// Not `Clone`: only a `Ref` can share it.
#[derive(Debug)]
struct Big(u64);

fn numbers(client: &Client) -> [Handle<u64>; 3] {
    [1, 2, 3].map(|x| client.submit(async |x: u64| x, x))
}

#[test]
fn pairs_with_plain_values() {
    bounded(|| {
        let client = client_of(1);
        let [x, y, z] = numbers(&client);
        let named = vec![("x", x.clone()), ("y", y.clone())];
        let same = async |named: Vec<(&'static str, u64)>| named;
        assert_eq!(client.submit(same, named).result().unwrap(), [("x", 1), ("y", 2)]);
        let borrowed: Vec<_> = [("x", &x), ("z", &z)].into_iter().collect();
        assert_eq!(client.submit(same, borrowed).result().unwrap(), [("x", 1), ("z", 3)]);
        let swapped = [(x.clone(), 'x'), (z, 'z')];
        let same = async |named: [(u64, char); 2]| named;
        assert_eq!(client.submit(same, swapped).result().unwrap(), [(1, 'x'), (3, 'z')]);
        let both =
            async |pairs: Vec<(u64, Ref<u64>)>| pairs.iter().map(|(a, b)| a * **b).sum::<u64>();
        assert_eq!(client.submit(both, vec![(&x, &y), (&y, &y)]).result().unwrap(), 6);
    });
}

#[test]
fn maps_of_vectors_and_of_options() {
    bounded(|| {
        let client = client_of(1);
        let [x, y, z] = numbers(&client);
        let lists = HashMap::from([
            ("xy", vec![x.clone(), y.clone()]),
            ("z", vec![z.clone()]),
            ("", vec![]),
        ]);
        let expected = HashMap::from([("xy", vec![1, 2]), ("z", vec![3]), ("", vec![])]);
        let same = async |lists: HashMap<&'static str, Vec<u64>>| lists;
        assert_eq!(client.submit(same, &lists).result().unwrap(), expected);
        assert_eq!(client.submit(same, lists).result().unwrap(), expected);
        let lists = BTreeMap::from([(1, vec![&x, &y]), (2, vec![])]);
        let same = async |lists: BTreeMap<u8, Vec<u64>>| lists;
        assert_eq!(
            client.submit(same, lists).result().unwrap(),
            BTreeMap::from([(1, vec![1, 2]), (2, vec![])])
        );
        let options = BTreeMap::from([(1, Some(x.clone())), (2, None)]);
        let expected = BTreeMap::from([(1, Some(1)), (2, None)]);
        let same = async |options: BTreeMap<u8, Option<u64>>| options;
        assert_eq!(client.submit(same, &options).result().unwrap(), expected);
        assert_eq!(client.submit(same, options).result().unwrap(), expected);
        let keyed = vec![BTreeMap::from([('x', x)]), BTreeMap::from([('y', y), ('z', z)])];
        let sums = async |keyed: Vec<BTreeMap<char, u64>>| {
            keyed.iter().map(|map| map.values().sum()).collect::<Vec<u64>>()
        };
        assert_eq!(client.submit(sums, &keyed).result().unwrap(), [1, 5]);
        assert_eq!(client.submit(sums, keyed).result().unwrap(), [1, 5]);
    });
}

#[test]
fn tuples_in_tuples() {
    bounded(|| {
        let client = client_of(1);
        let [x, y, z] = numbers(&client);
        let same = async |a: u8, rest: (u64, (char, u64))| (a, rest);
        assert_eq!(client.submit(same, (9, (&x, ('c', &y)))).result().unwrap(), (9, (1, ('c', 2))));
        let bare = async |pair: (u64, u16)| pair;
        assert_eq!(client.submit(bare, (&x, 7)).result().unwrap(), (1, 7));
        let three = async |(a, b, c): (u8, u64, u8), d: u64| (a, b, c, d);
        assert_eq!(client.submit(three, ((1, &y, 3), &z)).result().unwrap(), (1, 2, 3, 3));
        let four = async |((a, b, c, d), e): ((u8, u8, u8, u64), u64)| {
            [a as u64, b as u64, c as u64, d, e]
        };
        assert_eq!(client.submit(four, ((1, 2, 3, &z), x)).result().unwrap(), [1, 2, 3, 3, 1]);
        // Each part may be of any kind, in any order.
        let mixed = async |(a, b, c, d): (Vec<u64>, u8, Option<u64>, String)| {
            a.len() + b as usize + d.len() + c.map_or(0, |c| c as usize)
        };
        assert_eq!(
            client.submit(mixed, (vec![&y, &z], 1, Some(&y), "four".to_owned())).result().unwrap(),
            9
        );
    });
}

#[test]
fn plain_tuples_and_containers_are_plain_values() {
    bounded(|| {
        let client = client_of(1);
        let pair = client.submit(async |(a, b): (u8, i8)| (a, b), (1, -1));
        assert_eq!(pair.result().unwrap(), (1, -1));
        let nested = vec![(1u8, Some(vec!["a"]))];
        let same = async |nested: Vec<(u8, Option<Vec<&'static str>>)>| nested;
        assert_eq!(client.submit(same, nested.clone()).result().unwrap(), nested);
        let handles = vec![client.ready(1u64)];
        // A handle may be the value.
        let awaits = async |all: Vec<Handle<u64>>| all[0].try_get().unwrap().unwrap();
        assert_eq!(client.submit(awaits, handles).result().unwrap(), 1);
    });
}

#[test]
fn results_of_handles() {
    bounded(|| {
        let client = client_of(1);
        let [x, ..] = numbers(&client);
        let same = async |x: Result<u64, String>| x;
        let ok = client.submit(same, Ok::<_, String>(&x));
        assert_eq!(ok.result().unwrap(), Ok(1));
        let none = client.submit(same, Err::<Handle<u64>, _>("none".to_owned()));
        assert_eq!(none.result().unwrap(), Err("none".to_owned()));
        let all = vec![Ok(x), Err("none".to_owned())];
        let count = async |all: Vec<Result<u64, String>>| all.iter().flatten().count();
        assert_eq!(client.submit(count, all).result().unwrap(), 1);
        // What fails is still the error of the dependent.
        let fails = client.try_submit(async || Err::<u64, _>("it fails"), ());
        let dependent = client.submit(same, Ok::<_, String>(&fails));
        assert_eq!(dependent.result().unwrap_err().kind(), ErrorKind::Failed);
    });
}

#[test]
fn six_containers_inside_of_each_other() {
    bounded(|| {
        let client = client_of(1);
        let [x, y, _] = numbers(&client);
        let deep = vec![vec![vec![vec![vec![vec![x.clone(), y.clone()], vec![]]]]]];
        type Three<T> = Vec<Vec<Vec<T>>>;
        let same = async |deep: Three<Three<u64>>| deep;
        let expected = vec![vec![vec![vec![vec![vec![1, 2], vec![]]]]]];
        assert_eq!(client.submit(same, &deep).result().unwrap(), expected);
        assert_eq!(client.submit(same, deep).result().unwrap(), expected);
        let mixed = HashMap::from([("a", vec![(1u8, Some([x, y]))])]);
        type Numbered<T> = Vec<(u8, T)>;
        let same = async |mixed: HashMap<&'static str, Numbered<Option<[u64; 2]>>>| mixed;
        let expected = HashMap::from([("a", vec![(1u8, Some([1, 2]))])]);
        assert_eq!(client.submit(same, mixed).result().unwrap(), expected);
    });
}

#[test]
fn settled_ones_anywhere() {
    bounded(|| {
        let client = client_of(1);
        let [x, ..] = numbers(&client);
        let fails = client.try_submit(async || Err::<u64, _>("it fails"), ());
        let named = vec![("x", x.settled()), ("fails", fails.settled())];
        let count = async |named: Vec<(&'static str, Result<u64, Error>)>| {
            named.into_iter().filter(|(_, x)| x.is_ok()).map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(client.submit(count, named).result().unwrap(), ["x"]);
        let groups = HashMap::from([(1, settled([&x, &fails])), (2, settled([&fails]))]);
        let counts = async |groups: HashMap<u8, Vec<Result<Ref<u64>, Error>>>| {
            let count = |all: &Vec<Result<_, _>>| all.iter().flatten().count();
            (count(&groups[&1]), count(&groups[&2]))
        };
        assert_eq!(client.submit(counts, &groups).result().unwrap(), (1, 0));
        let optional: Option<Settled<u64>> = Some(fails.settled());
        let is_err = async |x: Option<Result<u64, Error>>| x.unwrap().is_err();
        assert!(client.submit(is_err, &optional).result().unwrap());
        // Beside one that isn't: that one fails the task.
        let both = async |_: (Result<u64, Error>, u64)| panic!("it ran");
        let error = client.submit(both, (x.settled(), &fails)).result().unwrap_err();
        assert_eq!(*error.origin(), fails.key());
    });
}

#[test]
fn values_are_moved_out_of_nested_inputs_and_shared_as_refs() {
    bounded(|| {
        let client = Client::builder().workers(0).build();
        let counts = Counts::new();
        let values = [1, 2, 3].map(|x| counts.value(x)).map(|x| client.submit(async move || x, ()));
        let [x, y, z] = values;
        let tree = HashMap::from([("a", vec![(1u8, x)]), ("b", vec![(2, y), (3, z)])]);
        let sum = async |tree: HashMap<&'static str, Vec<(u8, Counted)>>| {
            tree.values().flatten().map(|(n, x)| u64::from(*n) * x.value).sum::<u64>()
        };
        let sum = client.submit(sum, tree);
        run_until_idle(&client);
        assert_eq!(sum.result().unwrap(), 14);
        assert_eq!((counts.clones.get(), counts.drops.get()), (0, 3));
        let big = client.submit(async || Big(7), ());
        let shared = async |all: Vec<(u8, Ref<Big>)>| {
            all.iter().map(|(n, big)| u64::from(*n) * big.0).sum::<u64>()
        };
        let shared = client.submit(shared, vec![(1, &big), (2, &big)]);
        run_until_idle(&client);
        assert_eq!(shared.result().unwrap(), 21);
    });
}

#[test]
fn every_kind_of_engine_takes_them() {
    async fn total(groups: Vec<(String, Vec<u64>)>) -> u64 {
        groups.into_iter().flat_map(|(_, all)| all).sum()
    }
    async fn run(engine: &impl Engine) -> Result<u64, Error> {
        let x = engine.ready(1u64);
        let groups = vec![("a".to_owned(), vec![x.clone(), x.clone()]), ("b".to_owned(), vec![x])];
        engine.submit(total, groups).await
    }
    bounded(|| {
        assert_eq!(futures::executor::block_on(run(&client_of(1))).unwrap(), 3);
        let seeded = Client::builder().seed(1).build();
        assert_eq!(futures::executor::block_on(run(&seeded)).unwrap(), 3);
    });
}
