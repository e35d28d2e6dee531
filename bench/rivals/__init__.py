"""What bench/peers and bench/report are made of; the standard library alone.

    cases      what is measured: prompt, answer, cold or warm, in how much memory
    engines    how each engine is started for a case, and how its answer is read
    builds     downloading and building the rivals
    machine    this machine: its name, cold caches, read-ahead, its disk's speed
    runs       one process in its memory cgroup, with the time of each line
    results    rows of bench/results/*.csv and their medians
    drawing    the table and the chart
"""


class PeersError(Exception):
    """Something the user has to change, in one line."""
