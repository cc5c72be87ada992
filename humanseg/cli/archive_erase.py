"""`humanseg archive erase`: erase records by id or by photo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from humanseg.cli.archive_common import CONFIG, Config, Json, plain_errors, reader
from humanseg.cli.console import CommandError, err, print_json
from humanseg.common.names import state_dir

if TYPE_CHECKING:
    from humanseg.archive.capture.spool import Spool
    from humanseg.archive.read.erasing import Erased
    from humanseg.archive.read.reader import Reader


def erase(
    request_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID...", help="Request ids of records, or ids of clips.")
    ] = None,
    photo: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="Every record of this photo.", metavar="FILE"),
    ] = None,
    same_photo: Annotated[
        list[str] | None, typer.Option(help="Every record of the photo of this record.", metavar="ID")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Skip the confirmation.")] = False,
    config: Config = CONFIG,
    as_json: Json = False,
) -> None:
    """Erase records permanently: all object versions, corrected masks, and copies in the spool of this STATE_DIR.

    The id of a clip, or of a request with several photos, stands for all its records. --photo and --same-photo find a
    photo by its bytes without metadata, or by its pixels.

    Prints what was erased and which exports contain a copy. Then redacts the ids in the export notes, and vacuums the
    embedded store. Exit status 4: an id or a photo was not found.
    """
    from humanseg.archive.capture.hook import open_spool
    from humanseg.archive.read.erasing import erase as run
    from humanseg.archive.read.export_notes import redact
    from humanseg.archive.ship.command import read_settings
    from humanseg.archive.ship.store_wiping import embedded_store, wipe

    if not (request_ids or photo or same_photo):
        raise CommandError("give ids, --photo FILE, or --same-photo ID")
    with plain_errors():
        archive, spool = reader(read_settings(config)), open_spool(state_dir())
        wanted, unknown = _records_of(archive, spool, photo or [], same_photo or [])
    ids = list(dict.fromkeys([*(request_ids or []), *wanted]))
    if wanted:
        typer.echo("\n".join(wanted), err=True)
    if ids and not yes:
        typer.confirm(f"Erase what {len(ids)} requests sent, with all their versions?", abort=True, err=True)
    with plain_errors():
        erased = run(archive, spool, ids) if ids else []
    if as_json:
        print_json([vars(result) for result in erased])
    else:
        _tell(erased)
    store = embedded_store(archive.store.destination, state_dir())
    with plain_errors(), err().status("redacting export notes, vacuuming the embedded store"):
        gone = {*ids, *(result.request_id for result in erased)}
        redact(archive, gone)  # after printing: nothing else records the copies
        if store:
            wipe(store, archive.store.destination.bucket)
    for what in unknown:
        typer.echo(f"{what}: not found", err=True)
    if unknown or not all(result.found for result in erased):
        raise typer.Exit(4)


def _records_of(archive: Reader, spool: Spool, photos: list[Path], same: list[str]) -> tuple[list[str], list[str]]:
    """Ids of the records of these photos, and names of what has none."""
    from humanseg.archive.read.same_photo import fingerprint, fingerprint_of_record, records_of_photo

    request_ids: list[str] = []
    unknown = []
    wanted = [(str(path), fingerprint(path.read_bytes())) for path in photos]
    wanted += [(request_id, fingerprint_of_record(archive, spool, request_id)) for request_id in same]
    with err().status("looking for the photo"):
        for name, sought in wanted:
            ids = records_of_photo(archive, spool, sought)
            request_ids += ids
            if not ids:
                unknown.append(name)
    return list(dict.fromkeys(request_ids)), unknown


def _tell(erased: list[Erased]) -> None:
    for result in erased:
        typer.echo(f"{result.request_id}: " + ("erased" if result.found else "not found"))
        for key, number in result.versions.items():
            typer.echo(f"  bucket  {key}  ({number} version{'s' if number > 1 else ''})")
        for name in result.spooled:
            typer.echo(f"  spool   {name}")
        for note in result.exports:
            typer.echo(f"  a copy was exported {note['time']} by {note['by']}@{note['host']} to {note['folder']}")
            typer.echo(f"          {_how(note['format'], result.photo)}")
    typer.echo(
        f"Searched the bucket and the spool in {state_dir()}. Records in another server's spool are uploaded"
        " later: erase there too, or again when its spool is empty.",
        err=True,
    )


def _how(fmt: str, photo: str) -> str:
    """How to delete a copy."""
    if fmt == "replay":
        return "repeat the replay into that folder"
    if fmt == "comparison":
        return "delete the report"
    if fmt in ("coco", "webdataset", "label-studio"):
        return f"export into that folder again; the photo is {photo or 'in manifest.jsonl'} there"
    return (
        f"export into that folder again, or delete img/{photo}.* and mask/{photo}.png and its line in manifest.jsonl"
    )
