// What is to run again has to be `Clone`.

struct Ticket;

fn main() {
    let client = ensue::Client::new();
    let x = client.task().retries(3).submit(async |_: Ticket| (), Ticket);
    x.result().unwrap();
}
