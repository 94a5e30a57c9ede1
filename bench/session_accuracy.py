"""`python bench/session_accuracy.py`: session accuracy beside the best published results.

Runs `onhand evaluate sessions`, one recipe for all, on the sets under ../shared/data that are
there, and prints each result beside the best published figure and the baselines of the same run.
"""

import os
import sys
from pathlib import Path

from onhand.offline.session_evaluation import evaluate_files

DATA = Path(__file__).parents[2] / "shared" / "data"
SETS = {  # training file, test file, best published HR@20 and MRR@20 (0: not published)
    "rsc15_64": ("train_full", "test", 0.6503, 0.3165),
    "serenade_toy": ("train", "test", 0.0, 0.3401),
    "diginetica": ("train", "test", 0.5422, 0.1907),
}


def main() -> None:
    for name in sys.argv[1:] or SETS:
        train, test, published_hr, published_mrr = SETS[name]
        folder = DATA / name
        if not folder.exists():
            print(f"{name}: skipped, {folder} is absent")
            continue
        result = evaluate_files(
            folder / f"{train}.parquet",
            folder / f"{test}.parquet",
            seed=0,
            n_threads=min(4, os.cpu_count() or 1),
            report=lambda what, done, total: None,  # noqa: ARG005
        )
        print(f"{name}: {result.n_predictions:,} predictions")
        print(f"  {'published best':22} HR@20 {published_hr:.4f}  MRR@20 {published_mrr:.4f}")
        for which, figures in {"onhand": result.model, **result.baselines}.items():
            hr, mrr = figures.hit_rate, figures.mean_reciprocal_rank
            print(f"  {which:22} HR@20 {hr:.4f}  MRR@20 {mrr:.4f}")
        took = result.latency
        print(
            f"  p50 {took.p50_us:.0f}, p90 {took.p90_us:.0f}, p99 {took.p99_us:.0f} us a prediction"
        )


if __name__ == "__main__":
    main()
