// With oneTBB: a node of a flow graph for each task.

#include <memory>
#include <vector>

#include <oneapi/tbb/flow_graph.h>
#include <oneapi/tbb/global_control.h>

#include "common.h"

using node = tbb::flow::continue_node<tbb::flow::continue_msg>;

static void run(struct graph *graphs, int count, enum kernel kernel, uint32_t steps) {
    tbb::flow::graph flow;
    std::vector<std::unique_ptr<node>> nodes;
    std::vector<node *> first;
    for (int at = 0; at < count; at++) {
        struct graph *graph = &graphs[at];
        size_t before = nodes.size();
        for (int step = 0; step < graph->steps; step++) {
            size_t here = nodes.size();
            for (int column = 0; column < graph->rows[step].width; column++) {
                auto body = [=](const tbb::flow::continue_msg &) {
                    run_task(graph, kernel, steps, step, column);
                };
                nodes.push_back(std::make_unique<node>(flow, body));
                const struct task *task = &graph->rows[step].tasks[column];
                if (task->count == 0) first.push_back(nodes.back().get());
                for (int input = 0; input < task->count; input++)
                    tbb::flow::make_edge(*nodes[before + task->inputs[input]], *nodes.back());
            }
            before = here;
        }
    }
    for (node *node : first) node->try_put(tbb::flow::continue_msg());
    flow.wait_for_all();
}

int main() {
    tbb::global_control threads(tbb::global_control::max_allowed_parallelism, read_number());
    serve(run);
}
