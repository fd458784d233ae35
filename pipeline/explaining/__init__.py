"""Explain what a head says of one tweet: words, views, and the training tweets behind it.

`explain.py` puts it together; `words.py` cuts the tweet, `views.py` divides its logits, and
`training.py` finds the training tweets. `page.py` writes an explanation as a page. No command and no
terminal here.
"""
