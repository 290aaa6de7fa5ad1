"""Measure a trained model: ``python evaluate.py model=<run folder>/model data=ukbench data.root=...``."""

from niphash.apps.evaluate import main

if __name__ == "__main__":
    main()
