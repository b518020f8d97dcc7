"""The metrics on InceptionV3 as TensorFlow had it: rFID, KID, precision and recall, Inception score.

The network is torch-fidelity's; its weights are read here, because its own loader would run whatever a file contains.
"""

import io
from functools import lru_cache
from pathlib import Path

import torch

from muse_core.errors import MuseError
from muse_core.evaluation.fidelity import FidelityExtractor, InceptionScore, Kid, PrecisionRecall
from muse_core.evaluation.metrics import Frechet
from muse_core.evaluation.spec import Metric, MetricContext
from muse_core.evaluation.weights import INCEPTION, find_weights, read_weights
from muse_core.model.weights.parts import sha256

POOLED, LOGITS = "2048", "logits_unbiased"


def make_rfid(context: MetricContext) -> Metric:
    """Make the Frechet distance on Inception's pooled features.

    Raises:
        NotMeasuredError: Inception's weights are not on this machine; so for all metrics here.
    """
    return Frechet("rfid", _extractor(context.device), POOLED, context.reference)


def make_kid(context: MetricContext) -> Metric:
    """Make the kernel distance on Inception's pooled features."""
    return Kid(_extractor(context.device), POOLED)


def make_precision_recall(context: MetricContext) -> Metric:
    """Make precision and recall on Inception's pooled features."""
    return PrecisionRecall(_extractor(context.device), POOLED)


def make_inception_score(context: MetricContext) -> Metric:
    """Make the Inception score of reconstructions."""
    return InceptionScore(_extractor(context.device), LOGITS)


def _extractor(device: str) -> FidelityExtractor:
    path = find_weights(INCEPTION)
    return load_inception(path, device, (POOLED, LOGITS))


@lru_cache(maxsize=2)
def load_inception(path: Path, device: str, taps: tuple[str, ...]) -> FidelityExtractor:
    """Load Inception with weights from a file of named tensors; shared by all metrics that ask for the same taps.

    Raises:
        MuseError: the file is damaged, or holds another network.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # The constructor unpickles a file without limits. It gets one that was written here, out of tensors read safely.
    safe = io.BytesIO()
    torch.save(dict(read_weights(path)), safe)
    safe.seek(0)
    try:
        network = FeatureExtractorInceptionV3("inception-v3-compat", list(taps), feature_extractor_weights_path=safe)
    except RuntimeError as error:
        raise MuseError(f"{path} does not hold InceptionV3 in TensorFlow's layout: {error}") from error
    return FidelityExtractor(network, f"inception-v3-compat {sha256(path)[:12]}", device)
