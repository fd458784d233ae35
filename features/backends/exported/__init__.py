"""Run the forward pass in other runtimes: models exported to OpenVINO or ONNX, kept in a cache.

`export` makes an export and proves it, `export_files` keeps and checks its files, `runtime` runs
it, `openvino_runtime` and `onnx_runtime` talk to the libraries. Running an export needs no torch.
"""
