"""The published numbers that stand beside a slide: of the same data set where there are any."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from niphash.studies.measured import label
from niphash.studies.published_values import Published, published

#: The papers of ``paper_results.csv``.
PAPERS = {
    "deephash": "Lin, Morere et al., DeepHash, arXiv 1501.04711",
    "uth": "Lin, Morere et al., Unsupervised Triplet Hashing, arXiv 1511.03055",
    "nip": "Morere et al., Nested Invariance Pooling and RBM Hashing, arXiv 1603.04595",
    "practical_guide": "Chandrasekhar et al., A practical guide to CNNs and Fisher vectors, arXiv 1508.02496",
}
MILLION = "+1m"  # at the end of the name of a data set with distractors
TURNED = "_rotated_"  # in the name of a data set, before the angle of its queries


@dataclass(frozen=True)
class Beside:
    """Which published numbers belong to a slide.

    Attributes:
        paper: Name of the paper in ``paper_results.csv``.
        descriptors: Descriptors of the papers; empty for all.
        methods: Methods of the papers; empty for all.
        elsewhere: Data set whose numbers are shown where none were published for the one that is measured.
        metric: Of the numbers; ``None`` for the first that the file has.
        bits: Code length of the numbers; ``None`` for all.
        million: Whether a million distractors are behind the data set.
        turned: Whether the queries are turned, by degrees that the name of the data set ends with.
    """

    paper: str
    descriptors: Sequence[str] = ()
    methods: Sequence[str] = ()
    elsewhere: str = "holidays"
    metric: str | None = None
    bits: int | None = None
    million: bool = False
    turned: bool = False

    def numbers(self, dataset: str) -> tuple[str, list[Published]]:
        """Return the data set that was found and its numbers, of one metric; none where there are none."""
        for name in (dataset, self.elsewhere):
            found = [number for number in published() if self._fits(number, name)]
            if found:
                metric = self.metric or found[0].metric
                return name, [number for number in found if number.metric == metric]
        return self.elsewhere, []

    def _name(self, number: Published) -> str:
        """Return the data set of a number without what the slide asks for anyway."""
        name = number.dataset.removesuffix(MILLION)
        return name.partition(TURNED)[0] if self.turned else name

    def _fits(self, number: Published, dataset: str) -> bool:
        return (
            number.paper == self.paper
            and number.dataset.endswith(MILLION) == self.million
            and (TURNED in number.dataset) == self.turned
            and self._name(number) == dataset
            and (not self.descriptors or number.descriptor in self.descriptors)
            and (not self.methods or number.method in self.methods)
            and (self.metric is None or number.metric == self.metric)
            and (self.bits is None or number.bits == self.bits)
        )


def rows(numbers: Sequence[Published]) -> list[dict[str, str]]:
    """Return published numbers as rows for :func:`niphash.studies.report.pictures.pictures`."""
    return [
        {
            "method": "" if number.method == "uncompressed" and number.bits is None else number.method,
            "descriptor": number.descriptor,
            "degrees": number.dataset.partition(TURNED)[2],
            "bits": "" if number.bits is None else str(number.bits),
            "metric": number.metric,
            "value": str(number.value),
        }
        for number in numbers
    ]


def caption(dataset: str, numbers: Sequence[Published], measured_on: str) -> str:
    """Return a sentence on what published numbers are of."""
    first: Any = numbers[0]
    whose = "the same data set" if dataset == measured_on else f"{dataset}, another data set"
    whose += ", with a million distractors" if first.dataset.endswith(MILLION) else ""
    read = ", partly read off a figure" if any(number.read_off for number in numbers) else ""
    return f"Published on {whose}: {label(first.metric)} ({PAPERS[first.paper]}{read})."
