// That this compiles shows what the others fail for. That it's here makes all of them be built and not
// only checked, and some are refused only then.

fn main() {
    let client = ensue::Client::new();
    let x = client.submit_pure(async |x: u64, factor: u64| x * factor, (1, 3));
    x.result().unwrap();
}
