"""A backbone trained on unlabelled photos by views."""
