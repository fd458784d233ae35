"""The Hugging Face hub: files of a repository come and go, and a card says what they are.

What is in the files is the business of `pipeline/head`, which uses this package and is not known
here. huggingface_hub is imported where it is used.
"""
