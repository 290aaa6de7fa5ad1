"""``niphash dashboard``: one self-contained page over many runs."""
