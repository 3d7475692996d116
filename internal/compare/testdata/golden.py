"""Writes golden.json: the numbers of the reference implementation, against which evalue.go is held.

Run as: python3 golden.py reference.py > golden.json, with the reference that the design of comparisons came with.
"""
import importlib.util, json, sys

spec = importlib.util.spec_from_file_location('reference', sys.argv[1])
ref = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ref)

counts = [(0, 0, 0), (1, 0, 0), (362, 0, 0), (363, 0, 0), (1000, 0, 0), (10000, 3, 0), (9600, 200, 200), (965, 35, 0), (50, 0, 70), (5, 5, 5)]
json.dump({
    'different': [[b, c, p, ref.log_e_diff(b, c, p)] for p in (.5, .6, 2 / 3) for b, c in
                  ((0, 0), (1, 0), (15, 0), (35, 0), (70, 55), (0, 500), (1.5, .5), (12.25, 3.75), (1000, 900))],
    'threshold': [[k, ref.log_threshold(k)] for k in (1, 2, 20, 100, 1000, 131072, 10 ** 6)],
    'same': [[a, v, c, t, ref.log_e_same(a, v, c, t)] for a, v, c in counts for t in (.001, .01, .2)],
    'upper': [[a, v, c, ref.upper(a, v, c)] for a, v, c in counts],
    'more': [[a, v, c, t, -1 if (m := ref.more_needed_same(a, v, c, t)) is None else m] for a, v, c in counts for t in (.001, .005, .01)],
    'units': [[blocks, *ref.block_units({i: b for i, b in enumerate(blocks)})] for blocks in
              ([[3, 0], [1, 1], [0, 0]], [[1, 0]] * 5, [[7, 3], [2, 9], [4, 0]])],
}, sys.stdout, indent=1)
print()
