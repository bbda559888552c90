"""Video in and out; PyAV is used in the ``video_*`` files beside this one and nowhere else."""

from srpipe.io.video_check import verify
from srpipe.io.video_encoder import SEQUENCES
from srpipe.io.video_sequence import SequenceSink
from srpipe.io.video_sink import VideoSink, suffix_for
from srpipe.io.video_source import VideoSource

__all__ = ["SEQUENCES", "SequenceSink", "VideoSink", "VideoSource", "suffix_for", "verify"]
