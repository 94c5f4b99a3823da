"""What the manifests of a C2PA store claim: generator, actions, source types, ingredients."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aigid.evidence.findings import Says
from aigid.evidence.json_text import detail
from aigid.evidence.source_types import name_source_type, source_type_says

_MOST_MANIFESTS, _MOST_ITEMS = 32, 256
_UNTRUSTED = "signingCredential.untrusted"
# Actions that leave the image's content as it was.
_NO_EDIT = frozenset(
    f"c2pa.{name}"
    for name in (
        *("created", "opened", "published", "converted", "transcoded", "repackaged"),
        *("watermarked", "watermarked.bound", "watermarked.unbound", "edited.metadata"),
    )
)


@dataclass(frozen=True)
class Claims:
    """What the active manifest and those of its parents claim."""

    says: Says
    source: str
    claim_generator: str
    signer: str
    signed_at: str
    source_types: tuple[str, ...]
    actions: tuple[str, ...]
    failures: tuple[str, ...]
    damaged_ingredients: tuple[tuple[str, tuple[str, ...]], ...]

    def details(self) -> dict[str, str]:
        """Return what a finding shows."""
        found = {
            "claim_generator": self.claim_generator,
            "digital_source_type": ", ".join(self.source_types),
            "actions": ", ".join(self.actions),
            "signer": self.signer,
            "signed_at": self.signed_at,
            "failures": ", ".join(self.failures),
        }
        return {name: detail(text) for name, text in found.items() if text}


def read_claims(store: dict[str, Any]) -> Claims:
    """Return the claims of a store; what has another form than it should is left out."""
    chain = list(_parents(store))
    active = chain[0] if chain else {}
    actions = [action for manifest in chain for action in _actions(manifest)]
    types = [name_source_type(detail(action.get("digitalSourceType"))) for action in actions]
    signature = _object(active.get("signature_info"))
    codes = [detail(action.get("action"))[:60] for action in actions]
    generator = _claim_generator(active)
    says = _says([name for name in types if name], codes)
    return Claims(
        says=says,
        source=_made_by(actions) if says is Says.AI else generator,
        claim_generator=generator,
        signer=detail(signature.get("issuer")) or detail(signature.get("common_name")),
        signed_at=detail(signature.get("time")),
        source_types=tuple(dict.fromkeys(filter(None, types))),
        actions=tuple(dict.fromkeys(filter(None, codes)))[:_MOST_MANIFESTS],
        failures=failures_of(_object(store.get("validation_results")).get("activeManifest")),
        damaged_ingredients=tuple(_damaged_ingredients(store)),
    )


def _says(types: list[str], actions: list[str]) -> Says:
    said = {source_type_says(name) for name in types}
    if Says.AI in said:
        return Says.AI
    edited = any(code and code not in _NO_EDIT for code in actions)
    if Says.EDITED in said or edited:
        return Says.EDITED
    return Says.CAMERA if Says.CAMERA in said else Says.NONE


def _parents(store: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the active manifest, then those of the images that it was made from, in turn.

    Images that were placed into it are not what it was made from. A damaged one ends the chain:
    what it claims is not signed.
    """
    manifests, later = _object(store.get("manifests")), _failures_by_uri(store)
    label, seen = store.get("active_manifest"), set[str]()
    while isinstance(label, str) and label not in seen and len(seen) < _MOST_MANIFESTS:
        seen.add(label)
        manifest = _object(manifests.get(label))
        yield manifest
        label = next(_sound_parents(label, manifest, later), None)


def _sound_parents(
    label: str, manifest: dict[str, Any], later: dict[str, tuple[str, ...]]
) -> Iterator[object]:
    for one in objects(manifest.get("ingredients")):
        is_parent = one.get("relationship") == "parentOf"
        if is_parent and not _failures_of_ingredient(label, one, later):
            yield one.get("active_manifest")


def _actions(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for assertion in objects(manifest.get("assertions")):
        if str(assertion.get("label")).startswith("c2pa.actions"):
            yield from objects(_object(assertion.get("data")).get("actions"))


def _claim_generator(manifest: dict[str, Any]) -> str:
    info = next(objects(manifest.get("claim_generator_info")), {})
    name = " ".join(filter(None, (detail(info.get("name")), detail(info.get("version")))))
    return name[:200] or detail(manifest.get("claim_generator"))[:200]


def _made_by(actions: list[dict[str, Any]]) -> str:
    """Return the program whose action says that a model made the image."""
    for action in actions:
        if source_type_says(name_source_type(detail(action.get("digitalSourceType")))) is Says.AI:
            agent = action.get("softwareAgent")
            name = detail(_object(agent).get("name")) or detail(agent)
            if name:
                return name[:200]
    return ""


def _damaged_ingredients(store: dict[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield title and failures of each ingredient, of whatever depth, that is damaged."""
    later = _failures_by_uri(store)
    for label, value in list(_object(store.get("manifests")).items())[:_MOST_MANIFESTS]:
        for ingredient in objects(_object(value).get("ingredients")):
            codes = _failures_of_ingredient(label, ingredient, later)
            if codes:
                yield detail(ingredient.get("title"))[:200], codes


def _failures_by_uri(store: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return what the reader found now, and who made the image did not know, by ingredient."""
    deltas = objects(_object(store.get("validation_results")).get("ingredientDeltas"))
    return {
        str(delta.get("ingredientAssertionURI")): failures_of(delta.get("validationDeltas"))
        for delta in deltas
    }


def _failures_of_ingredient(
    manifest: str, ingredient: dict[str, Any], later: dict[str, tuple[str, ...]]
) -> tuple[str, ...]:
    uri = f"self#jumbf=/c2pa/{manifest}/c2pa.assertions/{ingredient.get('label')}"
    results = _object(ingredient.get("validation_results"))
    known = _codes(ingredient.get("validation_status"))
    found = (*known, *failures_of(results.get("activeManifest")), *later.get(uri, ()))
    return tuple(dict.fromkeys(found))


def failures_of(results: object) -> tuple[str, ...]:
    """Return the codes of a manifest's failures; a signer who is not trusted is none."""
    return _codes(_object(results).get("failure"))


def _codes(statuses: object) -> tuple[str, ...]:
    codes = (detail(status.get("code"))[:100] for status in objects(statuses))
    return tuple(dict.fromkeys(code for code in codes if code and code != _UNTRUSTED))


def objects(value: object) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON array, up to a limit; nothing for anything else."""
    if isinstance(value, list):
        yield from (item for item in value[:_MOST_ITEMS] if isinstance(item, dict))


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
