"""Better labels: which ones are probably wrong, and which rows to label next.

`suspects` fits models on a part of the labelled rows and ranks the labels of the others by how much
speaks against them: `label_noise` has the loss and confident learning, `neighbours` the labels of
rows that lie near. `next_rows` chooses rows without a label by `diversity`, the maths of choosing.
Nothing here changes a label or a head.
"""
