"""``medtransfer push``: a model folder to a hub."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from .messages import write_log
from .options import add_json
from .results import Results

USAGE = "FOLDER ORG/NAME [--license NAME] [--create] [options]"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments; none is a token, which other users of the machine could see."""
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="a model folder")
    add("repository", metavar="ORG/NAME", help="the repository")
    add("--license", metavar="NAME", help="the licence, where model.json names none: CC-BY-4.0, apache-2.0, ...")
    add("--create", action="store_true", help="make the repository if there is none")
    add("--public", action="store_true", help="with --create: public; private otherwise")
    add("--message", metavar="TEXT", help="the commit's message")
    add("--keep-readme", action="store_true", help="send the folder's own README.md, not one drawn from model.json")
    add("--dry-run", action="store_true", help="show what would be sent, and send nothing")
    add_json(parser)


def run(options: Namespace, results: Results) -> int:
    """Show what will be sent, send it, print the commit and the reference to hand on."""
    from medtransfer.sharing.push import pack, send, unsent

    parcel = pack(options.folder, options.repository, options.license, options.keep_readme)
    for line in str(parcel).splitlines():
        write_log(line)
    pushed = unsent(parcel) if options.dry_run else send(parcel, options.create, options.public, options.message)
    results.write_either(pushed.to_dict(), str(pushed), options.json)
    return 0
