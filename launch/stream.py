"""Drafts with the target while searching for layers to skip, prompt after prompt (SWIFT).

python launch/stream.py --config=configs/evaluate/swift_stream.py

Every instance is decoded by the method and by autoregressive decoding. Rows of both go to
results.jsonl in the configuration's `out_dir`, and the search to a file. A stopped stream resumes.
Any value can be set, e.g. --config.task.num_prompts=20. launch/plot.py draws the rows.

The same as the command `rsd stream` of an installed package.
"""

from launcher import launch

if __name__ == "__main__":
    launch("stream", __doc__)
