"""Figures of a measured run that nobody measured: a GPU with round numbers."""

from pipeline.plan.figures import Figures

A_GPU = Figures(
    model="a-model",
    device="cuda",
    dtype="float16",
    machine="A GPU",
    cores=8,
    gpus=1,
    views={"mean": 384, "cls": 128},
    store_dtype="float16",
    rows=20_000,
    labelled=5_000,
    classes=3,
    distinct=16_000,
    encoded=10_000,
    tokens=25.0,
    input_bytes=150.0,
    id_bytes=19,
    load_seconds=20.0,
    rows_read=50_000.0,
    texts_tokenised=100_000.0,
    tokens_encoded=500_000.0,
    bytes_written=200e6,
    flops=400e9,
    input_rows=1_000_000,
)
