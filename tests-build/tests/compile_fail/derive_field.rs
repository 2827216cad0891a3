// The fields of a struct must be inputs.

use ensue::{Client, Handle, Input};

struct NotClone;

#[derive(Input)]
struct Job {
    image: Handle<NotClone>,
}

#[derive(Input)]
struct Other {
    #[input(as = String)]
    size: Handle<u64>,
}

#[derive(Input)]
struct Fits {
    size: Handle<u64>,
}

async fn takes_the_struct_itself(job: Fits) -> bool {
    job.size.is_finished()
}

async fn takes_another_one(_: OtherValues) {}

fn main() {
    let client = Client::new();
    let size = client.ready(1u64);
    // A struct may still be a plain value.
    let _ = client.submit(takes_the_struct_itself, Fits { size: size.clone() });
    let _ = client.submit(takes_another_one, Fits { size });
}
