"""One layer whose signs are the bits, trained by gradient."""
