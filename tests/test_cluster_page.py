"""What docs/cluster.md gives to clusters, tried with plain processes: the script and the manifests.

A process stands for each job of the array, or each pod, with the variables that a cluster sets.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest
import yaml
from page_blocks import read_page
from pages import PAGES, ROOT

from features.engines.ray_cluster import OLDEST, version_of
from pipeline.cli.commands import main

BLOCKS = read_page(PAGES["docs/cluster.md"]).blocks
(SCRIPT,) = [one.code for one in BLOCKS if one.code.startswith("#!/bin/bash")]
MANIFESTS = {
    manifest["kind"]: manifest
    for block in BLOCKS
    if block.language == "yaml"
    for manifest in yaml.safe_load_all(block.code)
}
JOB = MANIFESTS["Job"]["spec"]
(CONTAINER,) = JOB["template"]["spec"]["containers"]
AT_ONCE = 2
# As the console script, with torch alone: exports take seconds.
FROSTLINE = f"""#!{sys.executable}
from features.backends import registry
from pipeline.cli.commands import main

registry.backends_on = lambda device: ["torch"]
main(prog_name="frostline")
"""


def directives():
    """What the script asks Slurm for."""
    return dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", SCRIPT, re.MULTILINE))


def indices():
    """The indices of the array."""
    first, last = re.fullmatch(r"(\d+)-(\d+)%\d+", directives()["array"]).groups()
    return range(int(first), int(last) + 1)


def arguments_of(index):
    """The arguments of a pod, as Kubernetes expands them from its variables."""
    variables = {"JOB_COMPLETION_INDEX": str(index)}
    return [
        re.sub(r"\$\((\w+)\)", lambda found: variables[found[1]], argument)
        for argument in CONTAINER["args"]
    ]


def parsed(words):
    """The parameters of a command, as click reads them."""
    with (
        click.Context(main, **main.context_settings) as parent,
        main.commands[words[0]].make_context(words[0], words[1:], parent=parent) as context,
    ):
        return context.params


def test_the_array_has_an_index_for_each_part():
    (command,) = re.findall(r"^exec frostline (.*)$", SCRIPT, re.MULTILINE)
    parts = int(re.search(r"^parts=(\d+)$", SCRIPT, re.MULTILINE)[1])
    assert list(indices()) == list(range(parts))
    words = shlex.split(command.replace("$parts", str(parts)).replace("$SLURM_ARRAY_TASK_ID", "3"))
    assert parsed(words)["part"] == f"3/{parts}"
    assert {"array", "gres", "cpus-per-task", "mem", "time", "signal", "requeue"} <= {*directives()}


def test_the_job_has_an_index_for_each_part():
    assert JOB["completionMode"] == "Indexed"
    assert JOB["template"]["spec"]["restartPolicy"] == "Never"  # as backoffLimitPerIndex needs
    names = {volume["name"] for volume in JOB["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == names
    last = JOB["completions"] - 1
    assert parsed(arguments_of(last))["part"] == f"{last}/{JOB['completions']}"


def test_the_cluster_of_kuberay_asks_for_a_token_and_has_no_old_ray():
    spec = MANIFESTS["RayCluster"]["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    assert version_of(spec["rayVersion"]) >= OLDEST
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for pod in (group["template"]["spec"] for group in groups):
        (container,) = pod["containers"]
        assert container["image"].endswith(f":{spec['rayVersion']}")
        names = [volume["name"] for volume in pod["volumes"]]
        assert [mount["name"] for mount in container["volumeMounts"]] == names


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """What runs jobs in a folder, two at a time; each is a list of words and its variables."""
    binaries = tmp_path_factory.mktemp("bin")
    script = binaries / "frostline"
    script.write_text(FROSTLINE)
    script.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "RAYON_NUM_THREADS": "1",
    }

    def run(folder, many):
        def one(job):
            words, variables = job
            return subprocess.run(
                words,
                cwd=folder,
                env=environment | variables,
                capture_output=True,
                text=True,
                timeout=300,
            )

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(one, many))

    return run


def folder_with_tweets(path, choice=None):
    path.mkdir()
    # With its times, by which the store knows that its index of a file is of that file.
    shutil.copy2(ROOT / "examples" / "tweets.csv", path)
    if choice is not None:
        (path / "store").mkdir()
        shutil.copy(choice, path / "store")
    return path


def content(store):
    return {
        path.relative_to(store): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }


def slurm_job(index):
    return ["bash", "extract.sbatch"], {"SLURM_ARRAY_TASK_ID": str(index)}


@pytest.mark.slow
def test_jobs_and_pods_make_the_store_that_one_process_makes(jobs, tmp_path):
    """The array out of order and one of its jobs twice, the pods in order, and all as one part."""
    by_slurm = folder_with_tweets(tmp_path / "slurm")
    (by_slurm / "extract.sbatch").write_text(SCRIPT)
    order = [*reversed(indices()), 0]
    done = jobs(by_slurm, [slurm_job(index) for index in order])
    assert [one.returncode for one in done] == [0] * len(order), [one.stderr for one in done]
    choice = by_slurm / "store" / "choice.json"

    by_pods = folder_with_tweets(tmp_path / "pods", choice)
    done = jobs(
        by_pods,
        [(["frostline", *arguments_of(index)], {}) for index in range(JOB["completions"])],
    )
    assert [one.returncode for one in done] == [0] * len(done), [one.stderr for one in done]

    alone = folder_with_tweets(tmp_path / "alone", choice)
    words = arguments_of(0)
    words[words.index("--part") + 1] = "1/1"
    (single,) = jobs(alone, [(["frostline", *words], {})])
    assert single.returncode == 0, single.stderr

    expected = content(alone / "store")
    assert Path("store.json") in expected
    assert content(by_slurm / "store") == expected
    assert content(by_pods / "store") == expected
    (checked,) = jobs(by_slurm, [(["frostline", "verify", "store/"], {})])
    assert checked.returncode == 0, checked.stderr
