"""Trains a draft for a target: python launch/distill.py --config=configs/distill/quickstart.py.

Each stage reads files of earlier stages in the work directory. Training resumes from the newest
checkpoint, generation of responses at the first missing shard. `--stage=all` runs the stages of a
pair in order. `--stage=losses` trains one draft per loss and compares the drafts,
`--stage=pack` packs the training of the draft for another machine,
`--stage=prompts` cuts new held-out prompts, `--stage=skipping` adapts the target to draft for
itself with sub-layers skipped, and `--stage=report` prints the results as tables. Any value of the
configuration can be set, e.g. --config.draft.recipe.steps=20000. `--mesh 4 2` uses 4 x 2 devices.

The same as the command `rsd distill` of an installed package.
"""

from launcher import launch

if __name__ == "__main__":
    launch("distill", __doc__)
