"""What reading a C2PA manifest store costs, counted from its boxes (JUMBF, ISO/IEC 19566-5).

The reader of C2PA cannot be interrupted, and one assertion of a few kilobytes may cost it more than
megabytes of thumbnails: a store is measured before it is read.
"""

from aigid.evidence.limits import MOST_C2PA_BOXES, MOST_C2PA_CLAIM_BYTES

_NO_CLAIMS = (b"bfdb", b"bidb", b"free")
_SIGNATURE = b"c2cs"
# Room that signers leave in a signature for times and certificates.
_SIGNATURE_BYTES = 64 << 10


def why_too_costly(store: bytes) -> str:
    """Return which limit a manifest store is over; empty where it is within all of them."""
    boxes = claim_bytes = 0
    # The ends of the boxes that hold the place, and whether they are a signature.
    open_boxes = [(len(store), False)]
    at = 0
    while at + 8 <= len(store):
        while len(open_boxes) > 1 and at >= open_boxes[-1][0]:
            open_boxes.pop()
        end, is_signature = open_boxes[-1]
        size, kind = int.from_bytes(store[at : at + 4], "big"), store[at + 4 : at + 8]
        first = at + 8
        if size == 1:
            size, first = int.from_bytes(store[first : first + 8], "big"), first + 8
        last = min(at + size if size else end, end)
        boxes += 1
        if boxes > MOST_C2PA_BOXES:
            return f"more than {MOST_C2PA_BOXES} boxes"
        if kind == b"jumb":
            # Its description comes first: its kind is the start of that box's content.
            open_boxes.append((last, store[first + 8 : first + 12] == _SIGNATURE))
            at = first
            continue
        if kind not in _NO_CLAIMS:
            claim_bytes += max(last - first - (_SIGNATURE_BYTES if is_signature else 0), 0)
        if claim_bytes > MOST_C2PA_CLAIM_BYTES:
            return f"more than {MOST_C2PA_CLAIM_BYTES >> 10} KiB of claims"
        at = max(last, first)
    return ""
