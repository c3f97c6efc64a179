"""A dataset looked at whole, before any training: every problem of every case in one pass, and a page to look at."""
