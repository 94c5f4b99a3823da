"""The metrics of a running scan, as Prometheus reads them."""

import re
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, str], float]


def scrape(url: str) -> Samples:
    """Return the value of each sample by its name and its label's value ("" without a label)."""
    with urlopen(url, timeout=30) as answer:
        return samples_of(answer.read().decode())


def samples_of(text: str) -> Samples:
    """Return the samples of a page of metrics. Each has a help text, and only one value."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            label = "" if len(sample.labels) > 1 else "".join(sample.labels.values())
            assert (sample.name, label) not in found
            found[sample.name, label] = sample.value
    return found


def url_in(line: str) -> str | None:
    """Return the URL that a scan's message names."""
    match = re.search(r"metrics for Prometheus: (http://\S+/metrics)", line)
    return match[1] if match else None
