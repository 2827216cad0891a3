// What is gathered are handles, in one container or in a tuple.

async fn run(client: &ensue::Client) {
    let x = client.submit(async || 1, ());
    let values = ensue::gather((&x, 2)).await;
    let next = ensue::as_completed([1, 2]);
    drop((values, next));
}

fn main() {
    drop(run(&ensue::Client::new()));
}
