"""``sr-zoo pull`` and ``sr-zoo push``."""

from sr_zoo.cli._common import UsageError

__all__ = ["add"]


def add(commands) -> None:
    command = commands.add_parser("pull", help="fetch a checkpoint from the Hugging Face Hub into a folder")
    command.add_argument("repo", metavar="REPO", help="owner/name")
    command.add_argument("-o", "--output", metavar="DIR", help="folder to make (default: the repository's name, here)")
    command.add_argument("--revision", metavar="R", help="branch, tag, commit or refs/pr/N (default: main)")
    command.set_defaults(run=_pull)

    command = commands.add_parser("push", help="publish a checkpoint on the Hugging Face Hub")
    command.add_argument("checkpoint", nargs="?", metavar="CHECKPOINT", help="name or checkpoint folder")
    command.add_argument("repo", nargs="?", metavar="REPO", help="owner/name, made if there is none")
    command.add_argument("--all", action="store_true", help="every model that ships with the package")
    command.add_argument("--namespace", metavar="NAME", help="with --all: user or organisation that owns the repositories")
    command.add_argument("--private", action="store_true", help="for its owner only")
    command.add_argument("--revision", metavar="R", help="branch to push to, made if there is none (default: main)")
    command.add_argument("--create-pr", action="store_true", help="propose it as a pull request")
    command.add_argument("--licence", metavar="L", help="of the weights, such as cc-by-nc-4.0; writes the card, README.md")
    command.add_argument(
        "--training-data", metavar="TEXT", help="for the card: what it was trained on and under which terms"
    )
    command.set_defaults(run=_push)


def _pull(options) -> int:
    from sr_zoo.remote import pull

    print(f"{options.repo} → {pull(options.repo, options.output, options.revision)}")
    return 0


def _push(options) -> int:
    if options.all != (options.namespace is not None):
        raise UsageError("push: --all and --namespace NAME go together")
    if options.all == (options.repo is not None) or (options.all and options.checkpoint is not None):
        raise UsageError("push: give CHECKPOINT and REPO, or --all --namespace NAME")
    if options.create_pr and options.revision not in (None, "main"):
        raise UsageError(f"push: a pull request starts from the main branch, not from --revision {options.revision}")
    if (options.licence is None) != (options.training_data is None) or (options.all and options.licence is not None):
        raise UsageError("push: --licence and --training-data write the card of one checkpoint together")
    from sr_zoo.publish import push, push_all

    choices = {"private": options.private, "revision": options.revision, "create_pr": options.create_pr}
    if options.all:
        push_all(options.namespace, lambda line: print(line, flush=True), **choices)
    else:
        card = {"licence": options.licence, "training_data": options.training_data}
        print(f"{options.checkpoint} → {push(options.checkpoint, options.repo, **choices, **card)}")
    return 0
