"""A backbone trained on class folders."""
