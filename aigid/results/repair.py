"""The repair of a results folder: what is bad goes, so that the same scan makes it again."""

from dataclasses import replace

from aigid.results.finding import Finding, FindingKind, Repair
from aigid.results.folder import DETECTIONS_FOLDER, FILES_FILE, SCAN_FILE, ResultsFolder
from aigid.results.verify import OnRows, find_leftovers, refuse_no_results, verify_results


def repair_results(results: ResultsFolder, on_rows: OnRows = lambda rows: None) -> list[Finding]:
    """Verify a results folder, remove what is bad, and return what was found.

    What aigid did not write stays. So does all but killed writes where `scan.json` or `files.arrow`
    is lost: no scan could go on there. The folder is held meanwhile, as a scan holds it.

    Raises as `verify_results` does, and UsageError where a scan is writing to the folder now.
    """
    refuse_no_results(results)
    leftovers = list(find_leftovers(results))
    with results.open():
        found = [*leftovers, *verify_results(results, on_rows)]
        records = (SCAN_FILE, FILES_FILE)
        if any(one.file in records and one.repair is Repair.NONE for one in found):
            return [_left(one) for one in found]
        listed = results.listed_shards()
        for one in found:
            if one.repair is Repair.RESTORE and listed is not None:
                results.write(SCAN_FILE, listed.scan)
            elif one.repair is Repair.REMOVE:
                results.remove(one.file)
        if any(map(_is_of_a_shard, found)):
            results.discard(())
    return found


def _left(one: Finding) -> Finding:
    return one if one.kind is FindingKind.LEFTOVER else replace(one, repair=Repair.NONE)


def _is_of_a_shard(one: Finding) -> bool:
    return (
        one.file.startswith(f"{DETECTIONS_FOLDER}/")
        and one.kind is not FindingKind.LEFTOVER
        and one.is_repairable
    )
