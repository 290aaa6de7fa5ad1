"""Describe photos, fit a hashing method, search, measure: ``python train.py data=oxford``."""

from niphash.apps.train import main

if __name__ == "__main__":
    main()
