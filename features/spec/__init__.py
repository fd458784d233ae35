"""What an encoder is: its files, tokenizer, normaliser and poolings, and the fingerprint of all.

`encoder_spec` is the record that makes two vectors comparable; `checkpoint` finds a model's files
and `model_files` refuses unsafe ones; `weights` reads safetensors; `tokenizer`, `normalize` and
`pooling` say what is done with a text and with hidden states; `unused_parts` names what is left
out. Imports `features.base`; never torch, transformers or h5py.
"""
