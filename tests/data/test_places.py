"""Shards are read the same from folders, web servers and object stores, and whichever tool wrote them."""

import functools
import gzip
import http.server
import io
import itertools
import json
import shutil
import subprocess
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
import webdataset

from muse_core.data import places
from muse_core.data.loader import Batches
from muse_core.data.mixing import MixedSource
from muse_core.data.reach import open_readable, refuse_unreadable_shards
from muse_core.data.sample import Sample, Skip
from muse_core.data.shards import ShardSource, read_index
from muse_core.data.source import Item, Source, open_source
from muse_core.data.transforms import train_transform
from muse_core.errors import MuseError
from tests.data.conftest import MakeTar, good, picture

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A web server that can be told to break off its next answers."""

    failures = 0
    secret = ""

    def do_GET(self) -> None:
        if self.path == type(self).secret:
            self.send_error(403)
        elif self.path.endswith(".tar") and type(self).failures:
            type(self).failures -= 1
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server(scene_shards: Path) -> Iterator[str]:
    """The address of a folder that a web server hands out."""
    handler = functools.partial(Quiet, directory=str(scene_shards))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        thread = threading.Thread(target=served.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


@pytest.fixture
def memory(scene_shards: Path) -> str:
    """The same folder in an object store."""
    store = fsspec.filesystem("memory")
    for path in scene_shards.iterdir():
        store.pipe(f"/bucket/train/{path.name}", path.read_bytes())
    return "memory://bucket"


def keys(source: Source) -> list[str]:
    return [item.key for item in source.once()]


def seen(items: Iterator[Item]) -> list[tuple[str, str, int]]:
    return [(one.key, one.caption, one.label) for one in items if isinstance(one, Sample)]


def test_a_web_server_gives_what_the_folder_gives(server: str, scene_shards: Path) -> None:
    here, there = ShardSource(str(scene_shards)), open_source(f"{server}/{{000000..000007}}.tar")
    assert keys(there) == keys(here)
    assert (there.count, there.fields, there.max_lanes) == (48, here.fields, 8)


def test_a_folder_of_a_web_server_is_known_by_its_index(server: str) -> None:
    assert ShardSource(server).count == 48


def test_readers_in_processes_of_their_own_read_from_a_web_server(server: str, scene_shards: Path) -> None:
    def batches(where: str, workers: int) -> list[list[str]]:
        source = ShardSource(where, shuffle=4)
        stream = Batches(source, batch_size=8, lanes=4, workers=workers, transform=train_transform(16))
        return [batch.keys for batch in itertools.islice(stream, 3)]

    assert batches(server, 2) == batches(str(scene_shards), 0)


def test_a_connection_that_breaks_is_tried_again(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "PAUSE_S", 0.0)
    monkeypatch.setattr(Quiet, "failures", 2)
    assert len(keys(ShardSource(f"{server}/000003.tar"))) == 6


def test_a_shard_that_is_gone_from_the_web_is_named_and_keeps_its_positions(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "PAUSE_S", 0.0)
    source = ShardSource(f"{server}/{{000006..000008}}.tar")
    monkeypatch.setattr(Quiet, "failures", 3)
    found = Counter(item.reason if isinstance(item, Skip) else "good" for item in source.once())
    assert found.pop("good") == 6
    assert found.pop("sample missing from its shard") == 5
    assert found.pop("shard cannot be read to its end (FileNotFoundError)") == 1  # 000008 was never there
    assert found.total() == 1


def test_an_object_store_gives_what_the_folder_gives(memory: str, scene_shards: Path) -> None:
    for where in (memory, f"{memory}/train/*.tar", f"{memory}/train/{{000000..000007}}.tar"):
        assert keys(ShardSource(where)) == keys(ShardSource(str(scene_shards)))
    index = read_index(f"{memory}/train")
    assert index is not None
    classes = ShardSource(memory).vocabulary.classes or ()
    assert [one.keys[0] for one in classes] == index["classes"]


@pytest.mark.parametrize("name", ["*.tar", "a.tar", ""])
def test_an_address_that_nobody_knows_is_refused(name: str) -> None:
    with pytest.raises(MuseError, match="nowhere://"):
        ShardSource(f"nowhere://bucket/{name}")


def test_a_server_that_does_not_say_whether_there_is_an_index_is_still_read(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Quiet, "secret", "/index.json")
    source = ShardSource(f"{server}/{{000000..000001}}.tar")
    assert source.count is None
    assert len(keys(source)) == 12


def test_a_server_that_is_not_there_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "PAUSE_S", 0.0)
    with pytest.raises(MuseError, match=r"http://127\.0\.0\.1:9/index\.json cannot be read"):
        ShardSource("http://127.0.0.1:9/a.tar")


@pytest.mark.parametrize(
    ("pattern", "secret", "says"),
    [
        ("{000000..000008}.tar", "", "/000008.tar does not exist"),
        ("{000006..000009}.tar", "", "/000009.tar does not exist"),
        ("{000000..000003}.tar", "/000000.tar", "/000000.tar cannot be read: .*403"),
    ],
)
def test_shards_that_cannot_be_read_are_named_before_they_are(
    server: str, monkeypatch: pytest.MonkeyPatch, pattern: str, secret: str, says: str
) -> None:
    monkeypatch.setattr(Quiet, "secret", secret)
    monkeypatch.setattr(Quiet, "do_HEAD", Quiet.do_GET)
    with pytest.raises(MuseError, match=says):
        open_readable(f"{server}/{pattern}")
    mix = f"0.5 demo + 0.5 {server}/{pattern}"
    with pytest.raises(MuseError, match=says):
        open_readable(mix)


def test_a_server_that_is_busy_is_asked_again(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "PAUSE_S", 0.0)
    monkeypatch.setattr(Quiet, "do_HEAD", Quiet.do_GET)
    monkeypatch.setattr(Quiet, "failures", 2)
    assert open_readable(f"{server}/{{000000..000007}}.tar").max_lanes == 8
    monkeypatch.setattr(Quiet, "failures", 20)
    with pytest.raises(MuseError, match=r"/000000\.tar cannot be read: .*503"):
        open_readable(f"{server}/{{000000..000007}}.tar")


def test_shards_that_can_be_read_are_not_fetched_to_know_it(
    server: str, scene_shards: Path, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetched(where: str, target: str) -> None:
        raise AssertionError(where)

    there = f"{server}/{{000000..000007}}.tar", str(scene_shards), f"{memory}/train/{{000000..000007}}.tar"
    sources = [open_source(where) for where in there]
    monkeypatch.setattr(places, "_fetch", fetched)
    for source in sources:
        refuse_unreadable_shards(source)
    monkeypatch.setenv("MUSE_ALLOW_PIPE", "1")
    ran = scene_shards.parent / "ran"
    open_readable(f"pipe:touch {ran}")
    assert not ran.exists()


def test_pipes_run_only_for_who_asks(make_tar: MakeTar, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_tar("a.tar", good(3))
    with pytest.raises(MuseError) as refused:
        ShardSource(f"pipe:cat {path}")
    assert "MUSE_ALLOW_PIPE=1" in str(refused.value.hint)
    monkeypatch.setenv("MUSE_ALLOW_PIPE", "1")
    assert len(keys(ShardSource(f"pipe:cat {path}"))) == 3
    (failed,) = ShardSource("pipe:false").once()
    assert isinstance(failed, Skip)


def test_a_mix_is_written_as_it_is_named(scene_shards: Path) -> None:
    mix = open_source(f"0.25 demo:val + 0.75 {scene_shards}")
    assert isinstance(mix, MixedSource)
    assert mix.weights.tolist() == [0.25, 0.75]
    assert open_source(mix.name).name == mix.name


def with_tar(folder: Path, out: Path, *options: str) -> Path:
    subprocess.run(["tar", *options, "-cf", str(out), "-C", str(folder), "."], check=True)
    return out


def with_shard_writer(folder: Path, out: Path) -> Path:
    with webdataset.ShardWriter(str(out.parent / "w-%d.tar"), verbose=0) as writer:
        for number in range(5):
            members = {path.suffix[1:]: path.read_bytes() for path in sorted(folder.glob(f"{number:05d}.*"))}
            writer.write({"__key__": f"{number:05d}", **members})
    return (out.parent / "w-0.tar").rename(out)


def packed(folder: Path, out: Path) -> Path:
    out.write_bytes(gzip.compress(with_tar(folder, out, "--sort=name").read_bytes()))
    return out


WRITERS: list[Callable[[Path, Path], Path]] = [
    with_tar,
    lambda folder, out: with_tar(folder, out, "--sort=name"),
    lambda folder, out: with_tar(folder, out, "--format=posix"),
    with_shard_writer,
    packed,
]


@pytest.mark.parametrize("write", WRITERS, ids=["tar", "tar-sorted", "tar-pax", "ShardWriter", "tar-gz"])
def test_whoever_wrote_a_tar_its_samples_are_the_same(tmp_path: Path, write: Callable[[Path, Path], Path]) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number:05d}.txt").write_text(f"caption {number}")
        (folder / f"{number:05d}.cls").write_text(str(number))
    for number in reversed(range(5)):  # a folder keeps no order that a tar could rely on
        (folder / f"{number:05d}.jpg").write_bytes(picture(20 + number, kind="JPEG"))
    path = write(folder, tmp_path / "x.tar")
    assert sorted(seen(ShardSource(str(path)).once())) == [(f"x/{n:05d}", f"caption {n}", n) for n in range(5)]


def test_the_layout_of_img2dataset_is_read(tmp_path: Path, make_tar: MakeTar) -> None:
    """Beside each tar a parquet table and a json of statistics; in it jpg, json with caption and sizes, and txt."""
    members = []
    for number in range(3):
        key = f"{number:09d}"
        record = {"caption": f"a cat {number}", "url": "x", "key": key, "status": "success", "width": 20, "height": 16}
        members += [(f"{key}.jpg", picture(kind="JPEG")), (f"{key}.txt", f"a cat {number}".encode())]
        members += [(f"{key}.json", json.dumps({**record, "exif": "{}"}).encode())]
    make_tar("00000.tar", members)
    (tmp_path / "00000_stats.json").write_text("{}")
    (tmp_path / "00000.parquet").write_bytes(b"PAR1")
    assert seen(ShardSource(str(tmp_path)).once()) == [(f"00000/{n:09d}", f"a cat {n}", -1) for n in range(3)]


def test_links_folders_and_files_without_a_suffix_are_no_samples(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in (("d", tarfile.DIRTYPE), ("README", tarfile.REGTYPE), ("x.jpg", tarfile.SYMTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type = kind
            tar.addfile(entry)
        for name, content in good(2):
            entry = tarfile.TarInfo(f"./d/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    assert keys(ShardSource(str(path))) == ["a/d/00000", "a/d/00001"]


def test_a_packed_tar_that_was_cut_short_gives_what_came_before(tmp_path: Path, make_tar: MakeTar) -> None:
    whole = gzip.compress(make_tar("a.tar", good(40)).read_bytes())
    path = tmp_path / "b.tar.gz"
    path.write_bytes(whole[: len(whole) * 9 // 10])
    items = list(ShardSource(str(path)).once())
    assert [item.reason for item in items if isinstance(item, Skip)] == ["cut off by the end of its shard"]
    assert 5 < len(items) < 40


def test_a_folder_moved_elsewhere_keeps_its_index(scene_shards: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(scene_shards, tmp_path / "moved")
    assert ShardSource(str(folder)).count == 48
