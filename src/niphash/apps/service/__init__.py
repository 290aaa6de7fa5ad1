"""``niphash serve``: a collection behind HTTP, and a page to look at it."""
