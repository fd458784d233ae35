"""Duplicates: texts that stand in several pieces, each found and given to one of them."""
