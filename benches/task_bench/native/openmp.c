// With OpenMP: tasks with `depend`.

#include <omp.h>

#include "common.h"

static void run(struct graph *graphs, int count, enum kernel kernel, uint32_t steps) {
#pragma omp parallel
#pragma omp single
    for (int at = 0; at < count; at++) {
        struct graph *graph = &graphs[at];
        for (int step = 0; step < graph->steps; step++) {
            for (int column = 0; column < graph->rows[step].width; column++) {
                const struct task *task = &graph->rows[step].tasks[column];
                const int *inputs = task->inputs;
                uint64_t *to = graph->results[step];
                if (task->count == 0) {
#pragma omp task firstprivate(graph, step, column) depend(out : to[column])
                    run_task(graph, kernel, steps, step, column);
                } else {
                    uint64_t *from = graph->results[step - 1];
#pragma omp task firstprivate(graph, step, column) \
    depend(iterator(k = 0 : task->count), in : from[inputs[k]]) depend(out : to[column])
                    run_task(graph, kernel, steps, step, column);
                }
            }
        }
    }
}

int main(void) {
    omp_set_num_threads(read_number());
    serve(run);
}
