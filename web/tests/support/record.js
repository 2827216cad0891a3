// Updates as the server sends them.

/** Returns a row of the table of tasks. */
export function taskRow(id, { name = 0, state = 0, depth = 0, attempt = 1, worker = -1, held = 0, priority = 0 } = {}) {
  return [id, name, state, depth, attempt, worker, held, priority];
}

/** Returns task counts that are 0 unless given. */
export function counts(given = {}) {
  return { waiting: 0, ready: 0, running: 0, delayed: 0, finished: 0, failed: 0, cancelled: 0, ...given };
}

/** Returns the statistics of a client. */
export function stats(given = {}) {
  return { ...counts(), workers: 0, busy: 0, tasks_in_memory: 0, functions: [], limits: [], rates: [], ...given };
}
