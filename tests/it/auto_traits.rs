//! `Send`, `Sync` and `Unpin` of every public type.

use std::cell::Cell;
use std::future::Future;
use std::marker::{PhantomData, PhantomPinned};
use std::rc::Rc;

use ensue::*;
use futures::future::FusedFuture;
use futures::stream::{FusedStream, Stream};
use futures::task::Spawn;

fn send<T: Send>() {}
fn sync<T: Sync>() {}
fn unpin<T: Unpin>() {}
fn all<T: Send + Sync + Unpin + 'static>() {}

/// `is!(T: Trait)` is whether the type implements the trait.
macro_rules! is {
    ($type:ty: $bound:path) => {{
        // One of the two is used.
        #[allow(dead_code)]
        trait Otherwise {
            fn is(&self) -> bool {
                false
            }
        }
        impl<T: ?Sized> Otherwise for Check<T> {}
        struct Check<T: ?Sized>(PhantomData<T>);
        #[allow(dead_code)]
        impl<T: ?Sized + $bound> Check<T> {
            fn is(&self) -> bool {
                true
            }
        }
        Check::<$type>(PhantomData).is()
    }};
}

#[test]
fn plain_types() {
    all::<Client>();
    all::<Key>();
    all::<Error>();
    all::<ErrorKind>();
    all::<Status>();
    all::<Retry>();
    all::<Sleep>();
    all::<Event>();
    all::<Stats>();
    all::<Graph>();
    all::<Explanation>();
    all::<Timeline>();
    all::<Stall>();
    all::<FunctionProgress>();
    send::<Builder>();
    unpin::<Builder>();
    send::<Worker>();
    send::<Options<'static>>();
    sync::<Options<'static>>();
    unpin::<Options<'static>>();
    send::<Options<'static, WithRetry>>();
}

#[test]
fn handles_and_what_is_made_of_them() {
    all::<Handle<u64>>();
    all::<Ref<u64>>();
    all::<GetRef<u64>>();
    all::<WaitOutput<u64>>();
    send::<AsCompleted<u64>>();
    unpin::<AsCompleted<u64>>();
    send::<WithResults<u64>>();
    unpin::<WithResults<u64>>();
    send::<Gather<u64>>();
    unpin::<Gather<u64>>();
    send::<GatherSettled<u64>>();
    unpin::<GatherSettled<u64>>();
    send::<GatherTuple<(Handle<u64>, Handle<Cell<u64>>)>>();
    unpin::<GatherTuple<(Handle<u64>, Handle<PhantomPinned>)>>();
    send::<GatherTupleSettled<(Handle<u64>,)>>();
    send::<Wait<u64>>();
    unpin::<Wait<u64>>();
    send::<MapStream<futures::stream::Empty<u64>, u64>>();
    // Whatever is in the value, a handle can be moved and pinned as usual.
    all::<Handle<Cell<u64>>>();
    unpin::<Handle<PhantomPinned>>();
    unpin::<Ref<PhantomPinned>>();
    unpin::<AsCompleted<PhantomPinned>>();
    send::<AsCompleted<u64, Tagged<Cell<u64>>>>();
    unpin::<AsCompleted<u64, Tagged<PhantomPinned>>>();
    unpin::<WithResults<u64, Tagged<PhantomPinned>>>();
    send::<MapStream<futures::stream::Empty<u64>, u64, Tagged<Cell<u64>>>>();
    unpin::<MapStream<futures::stream::Empty<u64>, PhantomPinned, Tagged<PhantomPinned>>>();
    assert!(!is!(AsCompleted<u64, Tagged<Rc<u64>>>: Send));
    unpin::<Gather<PhantomPinned>>();
}

#[test]
fn futures_and_streams() {
    fn future<T: Future + Send>() {}
    fn fused<T: FusedFuture>() {}
    fn stream<T: Stream + FusedStream>() {}
    fused::<Handle<u64>>();
    fused::<Gather<u64>>();
    fused::<GatherSettled<u64>>();
    fused::<GatherTuple<(Handle<u64>, Handle<u8>)>>();
    fused::<GatherTupleSettled<(Handle<u64>,)>>();
    future::<GetRef<Box<dyn Send + Sync>>>();
    future::<Wait<u64>>();
    future::<Worker>();
    future::<Sleep>();
    stream::<AsCompleted<u64>>();
    stream::<WithResults<u64>>();
    stream::<Events>();
    stream::<ProgressCounts>();
    all::<Events>();
    all::<ProgressCounts>();
    #[cfg(feature = "progress")]
    {
        future::<Progress>();
        all::<Progress>();
    }
    #[cfg(feature = "metrics")]
    all::<Metrics>();
    #[cfg(feature = "dashboard")]
    {
        use ensue::dashboard::{Body, Dashboard, DashboardBuilder, Service};
        all::<Dashboard>();
        all::<DashboardBuilder>();
        all::<Service>();
        all::<Body>();
    }

    fn spawn<T: Spawn>() {}
    spawn::<Client>();
    fn send_value<T: Send>(_: T) {}
    let client = Client::builder().workers(0).build();
    send_value(client.close());
    send_value(client.idle());
    send_value(async move {
        let handle = client.submit(async || 1, ());
        let mut stream = as_completed([&handle]);
        stream.next_batch().await;
        let shared = handle.get_ref().await;
        drop(shared);
        let _ = gather([handle]).await;
    });
}

#[test]
fn only_what_can_be_cloned_is_awaited() {
    struct NotClone;
    assert!(is!(Handle<u64>: Future));
    assert!(!is!(Handle<NotClone>: Future));
    assert!(!is!(Handle<Cell<u64>>: Future));
    assert!(is!(GetRef<NotClone>: Future));
    assert!(!is!(GetRef<Cell<u64>>: Future));
    // What a shared `Cell` would be without `Sync` is a data race.
    assert!(!is!(Ref<Cell<u64>>: std::ops::Deref));
    assert!(!is!(Handle<Rc<u64>>: Future));
    assert!(is!(Handle<NotClone>: Clone));
    assert!(is!(Ref<NotClone>: Clone));
}
