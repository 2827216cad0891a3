// The parts of a container fit those of the argument, whichever these are.

use std::collections::HashMap;

use ensue::{Client, Error, Handle};

async fn lengths(names: Vec<(u8, String)>) -> usize {
    names.iter().map(|(_, name)| name.len()).sum()
}

async fn groups(groups: HashMap<String, Vec<u64>>) -> usize {
    groups.len()
}

async fn outcome(result: Result<u64, Error>) -> bool {
    result.is_ok()
}

fn main() {
    let client = Client::new();
    let x: Handle<u64> = client.ready(1);
    let _ = client.submit(lengths, vec![(1u8, &x)]);
    let _ = client.submit(groups, HashMap::from([(1u8, vec![&x])]));
    let _ = client.submit(outcome, &x);
}
