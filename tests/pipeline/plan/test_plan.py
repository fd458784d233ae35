"""A plan from figures with round numbers: every number by hand, and what must follow from what."""

import dataclasses
import itertools
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measured import A_GPU

from features.errors import InputError
from features.extraction.windows import WINDOW
from pipeline.plan.fit_cost import fit_cost
from pipeline.plan.plan import plan, scaled
from pipeline.plan.quantities import Stragglers
from pipeline.plan.rates import Machines, row_seconds
from pipeline.plan.runs import SIMULATED_SHARDS
from pipeline.plan.shards import choose_shards
from pipeline.plan.store_size import store_bytes

ROOT = Path(__file__).parents[3]
A_CPU = dataclasses.replace(A_GPU, device="cpu", gpus=0)
NOTHING_HAPPENS = {"failures_per_hour": 0.0, "stragglers": Stragglers(0.0, 1.0)}


def million(figures, **machines):
    """Seconds of a million rows on a worker, by part, at 1,000 bytes a row; all; what binds."""
    found = row_seconds(figures, Machines(**machines), 1000.0)
    return {name: 1e6 * one for name, one in found.parts.items()}, 1e6 * found.total, found.binds


def test_the_parts_of_a_row_on_a_gpu():
    """0.8 of the rows are distinct, of 25 tokens; beside the device the others are quicker."""
    parts, total, binds = million(A_GPU)
    assert parts == pytest.approx(
        {
            "reading": 1e6 / 50_000,
            "tokenising": 0.8e6 / 100_000,
            "device": 0.8e6 * 25 / 500_000,
            "writing": 1e9 / 200e6,
            "network": 0.0,
            "disk": 0.0,
        }
    )
    assert (total, binds) == (pytest.approx(40 + 5), "device")


def test_the_parts_of_a_row_on_a_processor():
    """The same, and they share the cores; twice the cores halve what runs on all of them."""
    _, total, binds = million(A_CPU)
    assert (total, binds) == (pytest.approx(20 + 8 + 40 + 5), "device")
    assert million(A_CPU, cores_per_gpu=16)[1] == pytest.approx(20 + 4 + 20 + 5)


@pytest.mark.parametrize(
    ("machines", "total", "binds"),
    [
        ({"tokens_per_second": 5e6}, 20 + 5, "reading"),
        ({"tokens_per_second": 5e6, "cores_per_gpu": 1}, 64 + 5, "tokenising"),
        ({"network_mb_per_second": 10.0}, 40 + 5 + 115, "network"),
        ({"disk_mb_per_second": 10.0}, 315, "disk"),
        ({"disk_mb_per_second": 10.0, "gpus": 4}, 4 * 315, "disk"),
        ({"disk_mb_per_second": 1000.0, "gpus": 4}, 45, "device"),
    ],
)
def test_what_binds(machines, total, binds):
    """Input of 150 bytes and store of 1,000 go over the network; on the disk vectors go thrice."""
    _, found, part = million(A_GPU, **machines)
    assert (found, part) == (pytest.approx(total), binds)


def test_gpus_of_a_machine_share_its_cores():
    of_four = dataclasses.replace(A_GPU, gpus=4)
    assert Machines(64).cores(of_four) == 2
    assert million(of_four)[0]["tokenising"] == 4 * million(A_GPU)[0]["tokenising"]


def test_a_given_rate_makes_a_gpu_of_a_processor():
    assert million(A_CPU, tokens_per_second=500_000) == million(A_GPU)


def test_a_plan_by_hand():
    """10 million rows on 4 GPUs, if nothing happens: sums, and list scheduling of equal shards."""
    machines = Machines(4, price_per_gpu_hour=2.0, **NOTHING_HAPPENS)
    found = plan(A_GPU, machines, rows=10_000_000, shard_rows=100_000)
    assert (found.distinct, found.tokens) == (8_000_000, 200_000_000)
    assert (found.shards.rows, found.shards.count, found.shards.because) == (100_000, 100, "given")
    assert found.bytes.total == store_bytes(10_000_000, 100_000, A_GPU.views, "float16", 19)
    assert found.bytes.row == found.bytes.total / 10_000_000
    assert sum(found.bytes.views.values()) + found.bytes.columns < found.bytes.total
    row = 0.8 * 25 / 500_000 + found.bytes.row / 200e6
    assert found.work_hours == pytest.approx((10_000_000 * row + 100) / 3600)
    assert found.ideal_hours == found.work_hours / 4
    wall = (20 + 25 * (100_000 * row + 1)) / 3600  # 25 shards each, and the model is loaded
    assert found.simulated.wall_hours == pytest.approx({"p5": wall, "median": wall, "p95": wall})
    assert found.cost == pytest.approx(wall * 4 * 2)
    assert (found.simulated.deaths, found.simulated.doubles) == (0, 0)
    assert found.rows_per_second == pytest.approx(4 / row)
    assert found.fit.rows == 2_500_000  # a quarter has labels
    assert found.fit.columns == 384


def test_a_plan_is_json_and_its_figures_come_back():
    found = json.loads(json.dumps(plan(A_GPU, Machines(8), rows=10**9).to_dict()))
    assert found["figures"] == A_GPU.to_dict()
    assert found["machines"]["gpus"] == 8


@pytest.mark.parametrize("rows", [10**6, 10**8, 10**10, 10**12])
def test_the_work_of_a_simulation_is_bounded(rows):
    """So that a plan takes seconds, however many rows it is for."""
    found = plan(A_GPU, Machines(64), rows=rows)
    assert found.shards.count <= 100_000
    assert found.simulated.runs * found.shards.count <= SIMULATED_SHARDS


def test_rows_are_those_of_the_input_if_none_are_given():
    assert plan(A_GPU, Machines()).rows == 1_000_000
    unknown = dataclasses.replace(A_GPU, input_rows=None)
    with pytest.raises(InputError, match="is not known: give `rows`"):
        plan(unknown, Machines())


@pytest.mark.parametrize(
    ("machines", "asked", "said"),
    [
        ({"gpus": 0}, {}, "`gpus` is 0; give 1 to 10,000"),
        ({"gpus": 20_000}, {}, "`gpus` is 20,000; give 1 to 10,000"),
        ({"cores_per_gpu": 0}, {}, "`cores_per_gpu` is 0; give 1 or more"),
        ({}, {"shard_rows": 1}, "1,000,000 shards of 10,000,000,000 rows; give 10,000 or more"),
        ({}, {"labelled_rows": 10**11}, "`labelled_rows` is 100,000,000,000, of 10,000,000,000"),
    ],
)
def test_what_no_plan_is_made_for(machines, asked, said):
    with pytest.raises(InputError, match=said):
        plan(A_GPU, Machines(**machines), rows=10**10, **asked)


@pytest.mark.parametrize(
    ("rows", "machines"),
    [
        (10**12, {"failures_per_hour": 1000.0}),
        (10**6, {"failures_per_hour": 1e6, "stragglers": Stragglers(1.0, 1e6)}),
        (10**9, {"disk_mb_per_second": 1e-6}),
    ],
)
def test_a_run_that_would_never_end_is_refused(rows, machines):
    with pytest.raises(InputError, match=r"would hardly ever finish one; give (at most|fewer)"):
        plan(A_GPU, Machines(**machines), rows=rows)


def test_the_shards_that_are_advised_can_be_made():
    machines = Machines(4, failures_per_hour=0.5)
    with pytest.raises(InputError, match="would hardly ever finish one; give at most") as error:
        plan(A_GPU, machines, rows=10**9, shard_rows=10**9)
    (advised,) = re.findall(r"at most ([\d,]+) `shard_rows`", str(error.value))
    shard_rows = int(advised.replace(",", ""))
    assert plan(A_GPU, machines, rows=10**9, shard_rows=shard_rows).shards.rows == shard_rows


def test_ids_that_are_made_are_counted():
    """`PIECE:ROW`: 100 pieces of 100,000 rows have 8 bytes at most."""
    without = dataclasses.replace(A_GPU, id_bytes=0)
    found = plan(without, Machines(**NOTHING_HAPPENS), rows=10_000_000, shard_rows=100_000)
    assert found.bytes.total == store_bytes(10_000_000, 100_000, A_GPU.views, "float16", 8)


def test_where_rows_end_is_found_before_all_else():
    searched = dataclasses.replace(A_GPU, rows_searched=500_000.0)
    assert plan(searched, Machines(), rows=18 * 10**8).search_hours == 1.0
    assert plan(A_GPU, Machines(), rows=18 * 10**8).search_hours is None


def test_no_label_is_no_fit():
    assert plan(A_GPU, Machines(), labelled_rows=5).fit is not None
    assert plan(dataclasses.replace(A_GPU, labelled=0), Machines()).fit is None


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 10**13),
    workers=st.integers(1, 10_000),
    seconds=st.floats(1e-7, 10),
    row_bytes=st.floats(50, 1e6),
    failures=st.floats(0, 100),
)
def test_shards_keep_their_limits(rows, workers, seconds, row_bytes, failures):
    """None above a limit, but where a window or the number of shards ask for more rows."""
    found = choose_shards(rows, workers, seconds, row_bytes, failures)
    assert 1 <= found.rows <= rows
    assert found.count == -(-rows // found.rows) <= 100_000
    needed = max(WINDOW, rows / 100_000)
    if found.rows > 2.5 * needed:
        assert found.rows * seconds <= 1800 * (1 + 1e-9)
        assert found.rows * row_bytes <= 4e9 * (1 + 1e-9)
        assert found.rows * workers * 20 <= rows * (1 + 1e-9)
    assert str(found.rows).rstrip("0") in {"1", "2", "5"} or found.rows == rows


def test_more_deaths_make_smaller_shards():
    sizes = [choose_shards(10**10, 64, 1e-4, 3000, rate).rows for rate in (0, 0.01, 1, 10)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]


FIT = {"row_bytes": 768, "disk_bytes_per_second": None, "network_bytes_per_second": None}


@pytest.mark.parametrize(
    ("columns", "passes"), [(24, 18), (96, 24), (192, 27), (384, 30), (768, 41), (1536, 65)]
)
def test_passes_are_those_that_were_counted(columns, passes):
    """On 45,616 tweets, see `python benchmarks/plan.py fit`."""
    found = fit_cost(45_616, columns, 3, workers=1, flops=1e12, **FIT)
    assert found.passes == pytest.approx(passes, rel=0.15)


def test_a_fit_by_hand():
    """31 passes at 384 columns; 14 models are in one; 8 groups of rows for 8 workers at most."""
    own = 10**6 * 6e-6
    one = fit_cost(10**6, 384, 3, workers=1, flops=1e12, **FIT)
    assert (one.passes, one.workers, one.in_memory) == (31, 1, True)
    products = (31 * 4 * 10**6 * 384 * 3 * 14 + 2 * (64 * 384) * 384**2) / 1e12
    assert one.seconds == pytest.approx(products + own)
    assert (one.own_seconds, one.own_bytes) == (pytest.approx(own), 440e6)
    sums = 31 * 8 * 14 * 3 * 385 * 8 / 1e9
    for workers, share in ((8, 1 / 8), (7, 2 / 8), (64, 1 / 8)):
        many = fit_cost(10**6, 384, 3, workers=workers, flops=1e12, **FIT)
        assert many.workers == min(workers, 8)
        assert many.seconds == pytest.approx(products * share + sums + own)


def test_a_fit_that_reads_from_the_disk():
    """Once where the vectors are held; in each pass where they are too large."""
    on_disk = FIT | {"disk_bytes_per_second": 1e6}
    one = fit_cost(10**6, 384, 3, workers=1, flops=1e12, **FIT)
    read = fit_cost(10**6, 384, 3, workers=1, flops=1e12, **on_disk)
    assert read.seconds == pytest.approx(one.seconds + 768)
    large = fit_cost(10**8, 384, 3, workers=1, flops=1e12, **on_disk)
    assert not large.in_memory
    assert large.seconds == pytest.approx(31 * 76_800 + large.own_seconds, rel=1e-5)


def test_few_rows_for_many_columns_take_many_passes():
    few, enough = (fit_cost(n, 384, 3, workers=1, flops=1e12, **FIT) for n in (2_500, 20_000))
    assert few.passes == 8 * enough.passes


def test_more_gpus_end_earlier_and_cost_no_less():
    machines = Machines(price_per_gpu_hour=1.0)
    found = scaled(A_GPU, machines, 10**9, scales=(1, 4, 16, 64))
    of_a_size = scaled(A_GPU, machines, 10**9, shard_rows=10**6, scales=(1, 64))
    assert [one.shards.rows for one in of_a_size] == [10**6] * 2
    walls = [one.simulated.wall_hours["median"] for one in found]
    assert walls == sorted(walls, reverse=True)
    assert [one.ideal_hours * one.gpus for one in found] == pytest.approx(
        [found[0].ideal_hours] * 4, rel=0.05
    )
    for one in found:
        assert one.gpu_hours == one.cost == one.gpus * one.simulated.wall_hours["median"]
        assert one.ideal_hours < one.simulated.wall_hours["median"]
        assert 0.5 < one.simulated.efficiency < 1


@pytest.mark.parametrize("asked", [{"shard_rows": 100_000}, {}])
def test_gpus_without_a_shard_change_nothing(asked):
    """Three shards, or one: they take no part of the disk, and nobody waits for them."""
    machines = Machines(3, disk_mb_per_second=10.0, **NOTHING_HAPPENS)
    many = dataclasses.replace(machines, gpus=300)
    rows = 300_000 if asked else 2_000
    few, more = (plan(A_GPU, one, rows=rows, **asked) for one in (machines, many))
    for name in ("seconds", "rows_per_second", "work_hours", "ideal_hours", "shards", "bytes"):
        assert getattr(more, name) == getattr(few, name)
    assert more.simulated.wall_hours == few.simulated.wall_hours
    of_few, of_more = scaled(A_GPU, machines, rows, scales=(3, 300), **asked)
    assert (of_few.ideal_hours, of_more.ideal_hours) == (few.ideal_hours, few.ideal_hours)
    assert of_few.simulated.wall_hours == of_more.simulated.wall_hours == few.simulated.wall_hours


def test_a_fit_of_one_group_sends_nothing_however_many_workers_there_are():
    slow = FIT | {"network_bytes_per_second": 1.0}
    one, many = (fit_cost(100_000, 384, 3, workers=n, flops=1e12, **slow) for n in (1, 64))
    assert one == many


def test_every_name_in_the_file_is_documented():
    """And in the order of the file."""
    page = (ROOT / "docs/commands.md").read_text().partition("| in the JSON file |")[2]
    rows = itertools.takewhile(lambda line: line.startswith("|"), page.splitlines()[2:])
    names = [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert names == [*plan(A_GPU, Machines()).to_dict(), "scaling"]
