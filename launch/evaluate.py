"""Runs an experiment: python launch/evaluate.py --config=configs/evaluate/experiment1.py:quick.

Every measured cell (pair, task, method, verifier, tree, temperature, seed) becomes a row of
results.jsonl in the configuration's `out_dir`. When started again, the launcher measures the
missing cells. Any value can be set, e.g. --config.tasks.number_words.num_prompts=8, or
--config.pairs.llama2_7b.target=/models/Llama-2-7b-hf. `--dry_run` lists the cells with an estimate
of their time. launch/plot.py draws the rows.

The same as the command `rsd evaluate` of an installed package.
"""

from launcher import launch

if __name__ == "__main__":
    launch("evaluate", __doc__)
