"""Build what is uploaded, the source distribution and the wheel, and check it.

    python .ci/dist.py FOLDER

In comes the last commit, and nothing that is not in it; out come two files. Whoever builds the same
commit with the same setuptools gets the same bytes: times are that of the commit, and owners,
permissions and order do not depend on the machine. The wheel is built from the source distribution.
Uploads nothing.
"""

import gzip
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def output_of(*command: str) -> bytes:
    """Run git in the repository."""
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout


def build(kind: str, source: Path, target: Path, epoch: int) -> Path:
    """Build a distribution, with the setuptools of this environment."""
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch)}
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", target]
    subprocess.run([*command, source], check=True, env=environment, stdout=subprocess.DEVNULL)
    return max(target.iterdir(), key=lambda path: path.stat().st_mtime_ns)


def same_everywhere(path: Path, epoch: int) -> None:
    """Write an archive again, without what tells when, where and by whom it was made."""
    with tarfile.open(path) as archive:
        members = [(one, archive.extractfile(one)) for one in archive.getmembers()]
        contents = [(one, b"" if file is None else file.read()) for one, file in members]
    packed = io.BytesIO()
    with (
        gzip.GzipFile("", "wb", 9, packed, mtime=epoch) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for member, content in sorted(contents, key=lambda one: one[0].name):
            clean = tarfile.TarInfo(member.name)
            clean.type, clean.size, clean.mtime = member.type, len(content), epoch
            clean.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            archive.addfile(clean, io.BytesIO(content))
    path.write_bytes(packed.getvalue())


def main() -> None:
    """Build both into a folder."""
    target = Path(sys.argv[1]).resolve()
    target.mkdir(parents=True, exist_ok=True)
    epoch = int(output_of("git", "log", "-1", "--format=%ct"))
    os.umask(0o022)  # a wheel keeps permissions
    with tempfile.TemporaryDirectory() as scratch:
        commit, made = Path(scratch, "commit"), Path(scratch, "made")
        made.mkdir()
        with tarfile.open(fileobj=io.BytesIO(output_of("git", "archive", "HEAD"))) as archive:
            archive.extractall(commit, filter="data")
        sdist = build("sdist", commit, made, epoch)
        same_everywhere(sdist, epoch)
        with tarfile.open(sdist) as archive:
            archive.extractall(scratch, filter="data")
        wheel = build("wheel", Path(scratch, sdist.name.removesuffix(".tar.gz")), made, epoch)
        subprocess.run(
            [sys.executable, "-m", "twine", "check", "--strict", sdist, wheel], check=True
        )
        for path in (sdist, wheel):
            (target / path.name).write_bytes(path.read_bytes())


if __name__ == "__main__":
    main()
