"""Two processes measure what one does: identical counts, scores to 1e-6, also when the images do not divide."""

import multiprocessing
import socket
from multiprocessing.queues import Queue

import pytest
import torch

from muse_core.data.sample import Sample, Skip
from muse_core.errors import MuseError
from muse_core.evaluation.builtin import FD_TINY_CLIP, LINEAR, PSNR, SSIM, TOPOLOGY
from muse_core.evaluation.features import ProbeData
from muse_core.evaluation.fidelity import InceptionScore, Kid, PrecisionRecall
from muse_core.evaluation.pairs import Pairs
from muse_core.evaluation.probing import run_probe
from muse_core.evaluation.processes import Team, in_reading_order, joined
from muse_core.evaluation.protocol import Scores
from muse_core.evaluation.reading import EvalData, Tally, read
from muse_core.evaluation.reconstruction import evaluate
from muse_core.evaluation.segmentation import SegmentOptions, segment
from muse_core.evaluation.spec import Measured, Metric, MetricContext, MetricSpec, ProbeContext
from muse_core.evaluation.tiny_clip import TinyClip
from muse_core.evaluation.zeroshot import zeroshot
from muse_core.progress import Silent
from tests.evaluation.fakes import SIDE, Looks, MeanColours, MemorySource, Nearest, Passes, bright_classes, sample
from tests.evaluation.test_attention import teacher
from tests.evaluation.test_segmentation import CellColours, scene

COUNT = 41  # does not divide by 2, nor into batches of 7
METRICS = {
    "psnr": PSNR,
    "ssim": SSIM,
    "fd-tiny-clip": FD_TINY_CLIP,
    **{
        name: MetricSpec(help=name, target=f"tests.evaluation.test_processes:make_{name}", better="lower")
        for name in ("kid", "precision", "score", "alone")
    },
}


def make_kid(context: MetricContext) -> Metric:
    return Kid(TinyClip(context.device), TinyClip.TAP)


def make_precision(context: MetricContext) -> Metric:
    return PrecisionRecall(TinyClip(context.device), TinyClip.TAP)


def make_score(context: MetricContext) -> Metric:
    return InceptionScore(TinyClip(context.device), TinyClip.TAP)


class Alone:
    """A metric that cannot be shared."""

    def update(self, pairs: Pairs) -> None: ...

    def result(self) -> Measured:
        return Measured({"alone": 1.0})


def make_alone(context: MetricContext) -> Metric:
    return Alone()


def items() -> list[Sample | Skip]:
    labelled = bright_classes(COUNT, 4)
    return [*labelled[:20], Skip("image cannot be decoded", "x"), *labelled[20:], sample(900), Skip("cut off", "y")]


def image_data(team: Team, found: list[Sample | Skip] | None = None, limit: int | None = None) -> EvalData:
    return EvalData(MemorySource(found or items()), size=SIDE, batch_size=7, limit=limit, team=team)


def masked() -> list[Sample | Skip]:
    items: list[Sample | Skip] = [scene(key) for key in range(COUNT)]
    return [*items[:9], sample(900), *items[9:], Skip("cut off", "y"), scene(70)]


def segmented(team: Team) -> Scores:
    train, validation = image_data(team, masked()), image_data(team, [*reversed(masked())])
    return segment(CellColours(), train, validation, SegmentOptions(epochs=2, batch_size=4, rate=0.1)).scores


def looked_at(team: Team) -> Scores:
    generator = torch.Generator().manual_seed(0)
    tokenizer = Looks(torch.rand(16, 16, generator=generator).softmax(-1), (4, 4))
    validation = ProbeData(tokenizer, image_data(Team(), masked()), team=team)
    return run_probe("topology", TOPOLOGY, ProbeContext(tokenizer, validation, teacher=teacher), {"layer": "all"})


def named_by_text(team: Team) -> Scores:
    classes = ("zero", "one", "two", "three")
    return zeroshot(Nearest(classes), image_data(team), classes=classes, baseline=Nearest(classes[::-1]), top=(1, 2))


def whole(team: Team) -> tuple[Scores, ...]:
    """Everything that several processes share."""
    scores = evaluate(Passes(0.02), image_data(team), METRICS)
    part = evaluate(Passes(0.02), image_data(team, limit=13), {"psnr": PSNR})
    alone = Team()
    tokenizer = MeanColours()
    train, validation = (
        ProbeData(tokenizer, image_data(alone, bright_classes(count, 4, start)), team=team)
        for count, start in ((61, 0), (COUNT, 500))
    )
    probed = run_probe("linear", LINEAR, ProbeContext(tokenizer, validation, train), {"epochs": 2, "least_steps": 20})
    return scores, part, probed, named_by_text(team), segmented(team), looked_at(team)


def one_of_two(rank: int, meeting: str, answers: "Queue[tuple[int, object]]") -> None:
    torch.set_num_threads(1)
    with joined(rank, 2, meeting) as team:
        answers.put((rank, whole(team)))


@pytest.fixture(scope="module")
def together() -> dict[int, tuple[Scores, ...]]:
    """What each of two processes says."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    spawn = multiprocessing.get_context("spawn")
    answers = spawn.Queue()
    workers = [spawn.Process(target=one_of_two, args=(rank, meeting, answers)) for rank in range(2)]
    for worker in workers:
        worker.start()
    said = dict(answers.get(timeout=300) for _ in workers)
    for worker in workers:
        worker.join(timeout=60)
    return said


@pytest.mark.slow
def test_two_processes_measure_what_one_does(together: dict[int, tuple[Scores, ...]]) -> None:
    alone = whole(Team())
    for scores in together.values():
        for mine, theirs in zip(alone, scores, strict=True):
            assert theirs.counts == mine.counts
            expected = {name: value for name, value in mine.metrics.items() if name != "alone"}
            assert dict(theirs.metrics) == pytest.approx(expected, abs=1e-6, rel=1e-6)
            assert dict(theirs.standard_errors) == pytest.approx(dict(mine.standard_errors), abs=1e-6)
            assert theirs.protocol.fingerprint == mine.protocol.fingerprint or "alone" in mine.metrics
            assert theirs.baselines.keys() == mine.baselines.keys()
            for name, values in mine.baselines.items():
                assert dict(theirs.baselines[name]) == pytest.approx(dict(values), abs=1e-6)
            assert theirs.pictures == mine.pictures
            assert [row.values() for rows in theirs.tables.values() for row in rows] == [
                pytest.approx(list(row.values()), abs=1e-6) for rows in mine.tables.values() for row in rows
            ]
    counts = alone[0].counts
    assert counts == {"seen": COUNT + 1, "skipped": {"image cannot be decoded": 1, "cut off": 1}}
    assert len(alone[0].metrics) > 7


@pytest.mark.slow
def test_a_metric_that_cannot_be_shared_is_listed(together: dict[int, tuple[Scores, ...]]) -> None:
    assert "several processes" in together[0][0].not_measured["alone"]


def test_rows_come_together_in_the_order_of_the_data() -> None:
    parts = [
        (torch.tensor([0, 2, 4]), torch.tensor([[0.0], [2.0], [4.0]])),
        (torch.tensor([3]), torch.tensor([[3.0]])),
        (torch.zeros(0, dtype=torch.int64), torch.zeros(0, 0)),
    ]
    positions, rows = in_reading_order(parts)
    assert positions.tolist() == [0, 2, 3, 4]
    assert rows.flatten().tolist() == [0.0, 2.0, 3.0, 4.0]


class Split(Team):
    """One of two processes, without the other: what it reads is all there is."""

    def gather(self, value: object) -> list[object]:  # type: ignore[override]
        return [value]


@pytest.mark.parametrize("limit", [None, 0, 1, 10, 43])
def test_the_shares_of_two_readers_are_the_whole(limit: int | None) -> None:
    seen: list[int] = []
    for rank in range(2):
        try:
            for batch in read(image_data(Split(rank, 2), limit=limit), Silent(), "", Tally()):
                seen += batch.positions
        except MuseError:
            assert limit in (0, 1)  # nothing is left for one of them, or for both
    expected = [position for position, item in enumerate(items()) if isinstance(item, Sample)]
    assert sorted(seen) == [position for position in expected if limit is None or position < limit]


def test_one_process_is_its_own_team() -> None:
    assert Team().gather("what it has") == ["what it has"]
    assert Team().share_of(10, 4) == 10


@pytest.mark.parametrize("total", [0, 1, 10, 23, 24, 25])
def test_processes_take_whole_batches_in_turns(total: int) -> None:
    team = [Team(rank, 3) for rank in range(3)]
    shares = [[one.position(number, 4) for number in range(one.share_of(total, 4))] for one in team]
    assert sorted(position for share in shares for position in share) == list(range(total))
    assert shares[1][:6] == [place for place in (4, 5, 6, 7, 16, 17) if place < total]


def test_a_batch_holds_the_same_samples_however_many_processes_there_are() -> None:
    whole = [batch.positions for batch in read(image_data(Team()), Silent(), "", Tally())]
    shared = [read(image_data(Split(rank, 2)), Silent(), "", Tally()) for rank in range(2)]
    assert sorted(batch.positions for part in shared for batch in part) == whole
