//! The engine's own files, and stand-ins for the ones that have no part in the protocols between threads.

#![allow(dead_code, unused_imports, unsafe_code)]

/// Declares modules whose files are those of the engine itself.
macro_rules! real {
    ($($name:ident $file:literal;)*) => {
        $(#[path = $file] pub(crate) mod $name;)*
    };
}

mod standins;

#[path = "."]
pub(crate) mod base {
    pub(crate) use crate::engine::lock;
    pub(crate) use crate::engine::standins::block_on;
    pub(crate) use crate::sync;

    real! {
        deferred "../../../src/engine/base/deferred.rs";
        look "../../../src/engine/base/look.rs";
        nanos "../../../src/engine/base/nanos.rs";
        prefetch "../../../src/engine/base/prefetch.rs";
        shards "../../../src/engine/base/shards.rs";
        user_code "../../../src/engine/base/user_code.rs";
    }
}

#[path = "."]
pub(crate) mod task {
    pub(crate) use crate::engine::standins::surplus;

    real! {
        attempt "../../../src/engine/task/attempt.rs";
        containers "../../../src/engine/task/containers.rs";
        count "../../../src/engine/task/count.rs";
        edges "../../../src/engine/task/edges.rs";
        header "../../../src/engine/task/header.rs";
        inherited "../../../src/engine/task/inherited.rs";
        settled "../../../src/engine/task/settled.rs";
        state "../../../src/engine/task/state.rs";
        typed "../../../src/engine/task/typed.rs";
        wait_node "../../../src/engine/task/wait_node.rs";
        waiters "../../../src/engine/task/waiters.rs";
        walk "../../../src/engine/task/walk.rs";
    }
}

#[path = "."]
pub(crate) mod data {
    pub(crate) use crate::engine::cell_pool;
    pub(crate) use crate::engine::standins::{clock, limits};

    real! {
        completion_queue "../../../src/engine/data/completion_queue.rs";
        store "../../../src/engine/data/store.rs";
        waker_list "../../../src/engine/data/waker_list.rs";
    }
}

#[path = "."]
pub(crate) mod queue {
    pub(crate) use crate::engine::standins::seeded;

    real! {
        idle "../../../src/engine/queue/idle.rs";
        injector "../../../src/engine/queue/injector.rs";
        local "../../../src/engine/queue/local.rs";
        owned_tasks "../../../src/engine/queue/owned_tasks.rs";
        priority_queue "../../../src/engine/queue/priority_queue.rs";
        shared "../../../src/engine/queue/shared.rs";
    }
}

#[path = "."]
pub(crate) mod watch {
    real! {
        counters "../../../src/engine/watch/counters.rs";
        observer "../../../src/engine/watch/observer.rs";
        watched "../../../src/engine/watch/watched.rs";
    }
}

#[path = "."]
pub(crate) mod fork {
    real! {
        heartbeat "../../../src/engine/fork/heartbeat.rs";
        job "../../../src/engine/fork/job.rs";
        scope "../../../src/engine/fork/scope.rs";
    }
}

#[path = "."]
pub(crate) mod core {
    pub(crate) use crate::engine::engine_refs;
    pub(crate) use crate::engine::standins::{blocking_pool, virtual_timer};
    pub(crate) use engine::{Core, CoreRef};

    real! {
        activity "../../../src/engine/core/activity.rs";
        budget "../../../src/engine/core/budget.rs";
        context "../../../src/engine/core/context.rs";
        engine "../../../src/engine/core/engine.rs";
        host_poll "../../../src/engine/core/host_poll.rs";
        shutdown_state "../../../src/engine/core/shutdown_state.rs";
        threads "../../../src/engine/core/threads.rs";
    }
}

#[path = "."]
pub(crate) mod parallel {
    real! {
        join "../../../src/engine/parallel/join.rs";
    }
}

#[path = "."]
pub(crate) mod life {
    real! {
        callback "../../../src/engine/life/callback.rs";
        cell "../../../src/engine/life/cell.rs";
        create "../../../src/engine/life/create.rs";
        deadline "../../../src/engine/life/deadline.rs";
        drop_task "../../../src/engine/life/drop_task.rs";
        finish "../../../src/engine/life/finish.rs";
        pause "../../../src/engine/life/pause.rs";
        priority_inheritance "../../../src/engine/life/priority_inheritance.rs";
        retry "../../../src/engine/life/retry.rs";
        schedule "../../../src/engine/life/schedule.rs";
        shutdown "../../../src/engine/life/shutdown.rs";
        status "../../../src/engine/life/status.rs";
        waiting "../../../src/engine/life/waiting.rs";
        waker "../../../src/engine/life/waker.rs";
    }
}

#[path = "."]
pub(crate) mod graph {
    real! {
        cycle "../../../src/engine/graph/cycle.rs";
        way_back "../../../src/engine/graph/way_back.rs";
    }
}

#[path = "."]
pub(crate) mod worker {
    pub(crate) use worker_future::{Drive, WorkerFuture, drive_seeded};

    real! {
        run "../../../src/engine/worker/run.rs";
        threads "../../../src/engine/worker/threads.rs";
        worker_future "../../../src/engine/worker/worker_future.rs";
    }
}

#[path = "."]
pub(crate) mod futures {
    real! {
        completion "../../../src/engine/futures/completion.rs";
        shutdown "../../../src/engine/futures/shutdown.rs";
        wait "../../../src/engine/futures/wait.rs";
    }
}

pub(crate) mod cell_pool;
pub(crate) mod engine_refs;
pub(crate) mod lock;
