//! Tasks beside smol: on the client's own threads, and on an executor of the application.
//!
//! ```text
//! cargo run --example smol
//! ```
//!
//! smol's sockets and timers need no runtime, so tasks use them wherever they run.

use std::time::{Duration, Instant};

use ensue::{Client, Error, gather};
use smol::channel;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};
use smol::stream::StreamExt;
use smol::{Executor, Timer};

/// Sends a message over a socket and returns the reply.
async fn round_trip(port: u16, message: String) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(message.as_bytes()).await?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Echoes the bytes of each connection.
async fn echo(listener: TcpListener) -> std::io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        smol::spawn(async move { smol::io::copy(stream.clone(), stream).await }).detach();
    }
}

/// Runs tasks on the client's own threads.
async fn own_threads() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    let echoing = smol::spawn(echo(listener));

    let client = Client::new();
    let messages = ["one", "two", "three"].map(|message| (port, message.to_string()));
    let answers = gather(client.try_map(round_trip, messages)).await?;
    assert_eq!(answers, ["one", "two", "three"]);
    println!("{client}: {answers:?} came back");

    // A hundred timers at once need no hundred threads.
    let started = Instant::now();
    let naps = client.map(async |ms| Timer::after(Duration::from_millis(ms)).await, 0..100);
    gather(naps).await?;
    println!("a hundred naps of up to 99 ms took {:?}", started.elapsed());

    client.close().await;
    echoing.cancel().await;
    Ok(())
}

/// Runs tasks on an executor of the application, on the calling thread.
async fn one_thread() -> Result<(), Error> {
    let executor = Executor::new();
    let client = Client::builder().workers(0).build();
    let worker = executor.spawn(client.worker());
    executor
        .run(async {
            // A task of smol produces the inputs, and tasks of the client use them.
            let (sender, receiver) = channel::bounded(4);
            let producer = executor.spawn(async move {
                for number in 1..=10u64 {
                    if sender.send(number).await.is_err() {
                        break;
                    }
                }
            });
            let mut squares = client.map_stream(receiver, 4, async |x: u64| x * x);
            let mut sum = 0;
            while let Some(square) = squares.next().await {
                sum += square?;
            }
            producer.await;
            assert_eq!(sum, 385);
            client.close().await;
            worker.await;
            println!("one thread: the squares of 1 to 10 make {sum}");
            Ok(())
        })
        .await
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    smol::block_on(own_threads())?;
    Ok(smol::block_on(one_thread())?)
}
