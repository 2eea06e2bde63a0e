"""Measures speed and memory, each figure together with the machine and the conditions it was measured under.

    machine    what the figures were measured on, and whether it was busy
    timing     workloads timed in alternation: medians and extremes, wall time and CPU time
    processes  CPU time and memory of other processes, as Linux accounts for them
    memory     what the processes of a run take together
    report     figures, machine and conditions as one JSON document
    simulator  `workflow-rl bench simulator`
    limit      processes that only step an environment: what a collector is held against
    latency    an environment that only waits
    training   a training with warm workers, round by round

The scripts in `benchmarks/` of the source tree are made of these.
"""
