"""Read Kubernetes' files in tests, and make wrong ones."""

import copy
from collections.abc import Container, Iterator
from typing import Any

import yaml

Document = dict[str, Any]


class UniqueKeys(yaml.SafeLoader):
    """A loader that refuses equal keys, as Kubernetes does; PyYAML takes the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Document:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        if len(set(keys)) < len(keys):
            raise yaml.constructor.ConstructorError(
                None, None, "a key is given twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def misspelt(document: Document, free: Container[str]) -> Iterator[tuple[str, Document]]:
    """Yield copies of a document with one misspelt field each, except below the keys in `free`."""

    def fields(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        items = (
            value.items()
            if isinstance(value, dict)
            else enumerate(value)
            if isinstance(value, list)
            else ()
        )
        for key, child in items:
            if isinstance(value, dict):
                yield (*path, key)
            # The selector of a Service consists of labels; other selectors have fields.
            if not (key in free or (key == "selector" and "matchLabels" not in child)):
                yield from fields(child, (*path, key))

    for *parents, key in fields(document, ()):
        if key in ("apiVersion", "kind") and not parents:
            continue
        changed = copy.deepcopy(document)
        place: Any = changed
        for parent in parents:
            place = place[parent]
        place[f"{key}s"] = place.pop(key)
        yield ".".join(map(str, (*parents, key))), changed
