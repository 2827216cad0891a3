// What the programs in C and C++ share: the graphs, which they read from the standard input, and what a task computes. The
// arithmetic is that of kernel.rs.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct task {
    int count;
    int *inputs;
};

struct row {
    int width;
    struct task *tasks;
};

struct graph {
    int steps;
    struct row *rows;
    // For each step, a result for each column.
    uint64_t **results;
};

enum kernel { EMPTY, COMPUTE, IMBALANCE };

static int read_number(void) {
    int number;
    if (scanf("%d", &number) != 1) exit(0);
    return number;
}

static void *allocate(int count, size_t size) {
    void *memory = calloc(count > 0 ? count : 1, size);
    if (!memory) abort();
    return memory;
}

static void read_graph(struct graph *graph) {
    graph->steps = read_number();
    graph->rows = (struct row *)allocate(graph->steps, sizeof(struct row));
    graph->results = (uint64_t **)allocate(graph->steps, sizeof(uint64_t *));
    for (int step = 0; step < graph->steps; step++) {
        struct row *row = &graph->rows[step];
        row->width = read_number();
        row->tasks = (struct task *)allocate(row->width, sizeof(struct task));
        graph->results[step] = (uint64_t *)allocate(row->width, sizeof(uint64_t));
        for (int column = 0; column < row->width; column++) {
            struct task *task = &row->tasks[column];
            task->count = read_number();
            task->inputs = (int *)allocate(task->count, sizeof(int));
            for (int at = 0; at < task->count; at++) task->inputs[at] = read_number();
        }
    }
}

static uint64_t mix(const uint64_t *numbers, int count) {
    uint64_t mixed = 0x9e3779b97f4a7c15u;
    for (int at = 0; at < count; at++) {
        mixed = (mixed ^ numbers[at]) * 0xbf58476d1ce4e5b9u;
        mixed ^= mixed >> 29;
    }
    return mixed;
}

static uint64_t compute(uint64_t x, uint32_t steps) {
    for (uint32_t at = 0; at < steps; at++) {
        x = x * 0x5851f42d4c957f2du + 1;
        // Keeps the compiler from computing many steps as one.
        __asm__ volatile("" : "+r"(x));
    }
    return x;
}

static void run_task(struct graph *graph, enum kernel kernel, uint32_t steps, int step, int column) {
    const struct task *task = &graph->rows[step].tasks[column];
    uint64_t sum = 0;
    for (int at = 0; at < task->count; at++) sum += graph->results[step - 1][task->inputs[at]];
    const uint64_t place[2] = {(uint64_t)step, (uint64_t)column};
    uint64_t x = sum ^ mix(place, 2);
    if (kernel == COMPUTE) {
        x = compute(x, steps);
    } else if (kernel == IMBALANCE) {
        const uint64_t other[3] = {(uint64_t)column, (uint64_t)step, 1};
        x = compute(x, (uint32_t)((uint64_t)steps * (mix(other, 3) % 2048) / 1024));
    }
    graph->results[step][column] = x;
}

// The sum of the results of the last rows.
static uint64_t last_results(const struct graph *graphs, int count) {
    uint64_t sum = 0;
    for (int at = 0; at < count; at++) {
        const struct graph *graph = &graphs[at];
        const struct row *last = &graph->rows[graph->steps - 1];
        for (int column = 0; column < last->width; column++)
            sum += graph->results[graph->steps - 1][column];
    }
    return sum;
}

typedef void run_graphs(struct graph *graphs, int count, enum kernel kernel, uint32_t steps);

// Reads the graphs, and then runs them for each kernel that it reads, until there's no further one.
static void serve(run_graphs *run) {
    int count = read_number();
    struct graph *graphs = (struct graph *)allocate(count, sizeof(struct graph));
    for (int at = 0; at < count; at++) read_graph(&graphs[at]);
    for (;;) {
        enum kernel kernel = (enum kernel)read_number();
        uint32_t steps = (uint32_t)read_number();
        run(graphs, count, kernel, steps);
        printf("%llu\n", (unsigned long long)last_results(graphs, count));
        fflush(stdout);
    }
}
