"""Explain what a head says of one tweet: words, views, and the training tweets behind it.

`explain.py` puts it together; `words.py` cuts the tweet, `logits.py` divides its logits among the
views, `training.py` finds the training tweets and `refits.py` fits without them. `page.py` writes
an explanation as a page. No command and no terminal here.
"""
