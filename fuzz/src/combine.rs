//! Futures that the tasks of several targets await.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use futures::future::{join_all, select_all};
use futures::stream::{FuturesUnordered, StreamExt as _};

use super::script::How;

impl How {
    /// Returns a future that awaits the parts in this way. There is at least one.
    pub(crate) fn combine<F>(
        self,
        parts: impl IntoIterator<Item = F>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>
    where
        F: Future<Output: Send> + Unpin + Send + 'static,
    {
        match self {
            Self::Join => {
                let all = join_all(parts);
                Box::pin(async { drop(all.await) })
            }
            Self::Select => {
                let one = select_all(parts);
                Box::pin(async { drop(one.await) })
            }
            Self::Unordered => {
                let mut all: FuturesUnordered<_> = parts.into_iter().collect();
                Box::pin(async move { while all.next().await.is_some() {} })
            }
        }
    }
}

/// Is pending once.
pub(crate) async fn yield_now() {
    let mut first = true;
    poll_fn(|cx| {
        if std::mem::take(&mut first) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}
