//! Tasks on a tokio runtime: the workers are futures that tokio drives, so tasks may use its sockets and
//! timers.
//!
//! ```text
//! cargo run --example tokio
//! ```

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ensue::{Client, gather, gather_settled};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Serves connections on the loopback interface: the reply to each line is its length, after a moment.
async fn serve(listener: TcpListener) -> io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let (reader, mut writer) = stream.split();
            let mut lines = BufReader::new(reader).lines();
            while let Some(line) = lines.next_line().await? {
                tokio::time::sleep(Duration::from_millis(5)).await;
                writer.write_all(format!("{}\n", line.len()).as_bytes()).await?;
            }
            io::Result::Ok(())
        });
    }
}

/// Asks the server for the length of a word.
async fn ask(server: SocketAddr, word: String) -> io::Result<usize> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(format!("{word}\n").as_bytes()).await?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).await?;
    answer.trim().parse().map_err(io::Error::other)
}

async fn sum(lengths: Vec<usize>) -> usize {
    lengths.into_iter().sum()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let server = listener.local_addr()?;
    let serving = tokio::spawn(serve(listener));

    // The client has no threads: two tasks of tokio are its workers.
    let client = Client::builder().name("on tokio").workers(0).limit("sockets", 8).build();
    let workers = [tokio::spawn(client.worker()), tokio::spawn(client.worker())];

    let words = ["a", "handle", "for", "every", "piece", "of", "work"];
    let lengths: Vec<_> = words
        .iter()
        .map(|word| {
            let task = client.task().acquire("sockets").timeout(Duration::from_secs(10)).retries(2);
            task.try_submit(ask, (server, word.to_string()))
        })
        .collect();
    let total = client.submit(sum, &lengths);

    assert_eq!(gather(&lengths).await?, words.map(str::len));
    let total = total.await?;
    assert_eq!(total, 26);
    println!("{client}: {} words have {total} letters", words.len());

    // A handle is a future, so tokio's combinators apply. This one times out, and since it was the only handle,
    // its task is cancelled.
    let endless = client.submit(async || tokio::time::sleep(Duration::from_secs(3600)).await, ());
    let late = tokio::time::timeout(Duration::from_millis(20), endless).await;
    assert!(late.is_err());

    // An error only concerns its task.
    let closed: SocketAddr = "127.0.0.1:1".parse()?;
    let mixed = [(server, "yes".to_string()), (closed, "no".to_string())];
    let results = gather_settled(client.try_map(ask, mixed)).await;
    assert!(results[0].as_ref().is_ok_and(|&length| length == 3));
    let error = results[1].as_ref().expect_err("the port is closed");
    assert!(error.downcast_ref::<io::Error>().is_some());
    println!("{error:#}");

    client.close().await;
    for worker in workers {
        worker.await?;
    }
    serving.abort();
    Ok(())
}
