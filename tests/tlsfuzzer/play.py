"""Runs one script of tlsfuzzer with the random numbers of a seed: `play.py MODULE ARGUMENTS...`.

A script that has more conversations than it is asked for picks some by chance. With the seed, and with a fixed
PYTHONHASHSEED, it picks the same ones against each server, so that they can be compared.
"""

from __future__ import annotations

import random
import runpy
import sys

SEED = 20

if __name__ == "__main__":
    del sys.argv[0]
    random.seed(SEED)
    runpy.run_module(f"tlsfuzzer._apps.{sys.argv[0]}", run_name="__main__")
