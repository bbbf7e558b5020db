"""Draws result rows: figures as in the papers, tables, and one page with all of them.

python launch/plot.py RESULTS.jsonl [MORE.jsonl ...] --out_dir=DIRECTORY

Needs only the rows; JAX is not imported and need not be installed.

The same as the command `rsd plot` of an installed package.
"""

from launcher import launch

if __name__ == "__main__":
    launch("plot", __doc__)
