"""Times every method, autoregressive decoding and Hugging Face on the same weights.

python launch/benchmark.py                      the pair that ships, on JAX's default device
python launch/benchmark.py --target=DIR --draft=DIR --prompts=FILE
                                                a pair of your own: directories, GGUF files or names
                                                on the Hub; or --pair=smollm2 --source=package
python launch/benchmark.py --shape=llama2_7b    random bfloat16 weights in published shapes,
                                                for an accelerator
python launch/benchmark.py --verification       only verification, by every verifier
python launch/benchmark.py --skipping           only passes of the target with skipped sub-layers

The same as the command `rsd benchmark` of an installed package.
"""

from launcher import ROOT, launch

if __name__ == "__main__":
    launch("benchmark", __doc__, out=ROOT / "runs/benchmark/rows.jsonl")
