"""Every fault that is tried, in the order of the table."""

from tests.faults import killing, reading, surroundings, writing
from tests.faults.trial import Fault

FAULTS = (
    Fault("SIGKILL of the trainer", killing.kill_trainer),
    Fault("SIGKILL of one of two ranks", killing.kill_rank),
    Fault("SIGKILL of a reader process", killing.kill_reader),
    Fault("SIGTERM", killing.terminate),
    Fault("disk full while a checkpoint is saved", writing.full_while_saving),
    Fault("disk full while sharding", writing.full_while_sharding),
    Fault("disk full while features are cached", writing.full_while_caching),
    Fault("a shard deleted while training, no damage allowed", reading.damaged(reading.delete)),
    Fault("a shard cut short while training, no damage allowed", reading.damaged(reading.cut_short)),
    Fault("a shard replaced while training, no damage allowed", reading.damaged(reading.replace)),
    Fault("a shard deleted while training, some damage allowed", reading.tolerated(reading.delete)),
    Fault("a shard cut short while training, some damage allowed", reading.tolerated(reading.cut_short)),
    Fault("a shard replaced while training, some damage allowed", reading.tolerated(reading.replace)),
    Fault("a loss that is not a number", surroundings.not_finite),
    Fault("another locale and time zone", surroundings.ELSEWHERE),
    Fault("a full disk, or nobody, behind what is printed", surroundings.PRINTED),
    Fault("a terminal without letters, names that are not UTF-8", surroundings.TERMINALS),
    Fault("an output folder that cannot be written", writing.CANNOT_WRITE),
    Fault("two runs told to write one folder", writing.two_at_once),
    Fault("a run folder of an older version", surroundings.older_run),
    Fault("a run folder of a newer version", surroundings.NEWER_RUN),
)
