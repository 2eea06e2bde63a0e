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

`workflow-rl bench collectors` compares the ways to collect:

    collectors the command
    plan       what is asked for
    regimes    what is played
    contest    systems take turns at the same training
    turn       one system's turn: what is written down, and what it comes to
    footprint  what a system takes of the machine
    scaling    the sections scaling and, with Ray, four
    causes     where the speed-up comes from
    pairs      two ways to do the same, inside of every system
    tails      speed-up by tail of the step times
    barrier    what theory says about barriers
    figures    medians and intervals; tables and plots show them

The scripts in `benchmarks/` of the source tree are made of those in the first list.
"""
