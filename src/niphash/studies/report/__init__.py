"""Every question of the slides on one data set, as one page that needs no other file."""
