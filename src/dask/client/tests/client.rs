//! The client as a whole.

use std::sync::atomic::Ordering;

use async_io::Timer;

use super::fake::*;
use crate::ErrorKind;
use crate::dask::Registry;

async fn inc(x: u64) -> u64 {
    x + 1
}

/// Although handles of it exist, one of which has its result on the cluster.
#[test]
fn a_dropped_client_keeps_no_connection() {
    run(async {
        let fake = Fake::start().await;
        let (client, mut stream) = fake.take_client(Registry::new().add(inc)).await;
        let (done, pending) = (client.submit(inc, 1), client.submit(inc, 2));
        stream.hear_keys("update-graph", 2).await;
        stream.in_memory(&done.key()).await;
        soon(crate::wait_all([&done])).await;
        drop(client.clone());
        let third = client.submit(inc, 3);
        stream.expect("update-graph").await;
        assert!(fake.connections.load(Ordering::SeqCst) > 0);
        drop(client);
        stream.expect("close-client").await;
        stream.expect("close-stream").await;
        drop(stream);
        let gone = async {
            while fake.connections.load(Ordering::SeqCst) > 0 {
                Timer::after(SOON / 10).await;
            }
        };
        soon(gone).await;
        for handle in [done, pending, third] {
            assert_eq!(soon(handle).await.unwrap_err().kind(), ErrorKind::Closed);
        }
    });
}
