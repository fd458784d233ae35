"""Tools for every other package: files, paths, processes, threads, this machine. No domain words.

Atomic files and folders (`atomic`, `disk`), files by path or URL (`storage`, `remote`), names of
side files and refused paths (`paths`), text that is safe to show (`shown`), also in a notebook
(`notebook`), child processes with limits (`child`), threads that read ahead (`read_ahead`), records
in scratch files (`records`), the processor (`machine`) and the user's cache (`cache`). Imports only
`features.errors` and `features.version`; never torch, transformers or h5py.
"""
