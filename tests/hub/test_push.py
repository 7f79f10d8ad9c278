"""What is published is the whole checkpoint in one commit, or nothing; and only what says what a user must know."""

import re
import shlex
import shutil

import pytest
import torch
from PIL import Image

import sr_zoo
from sr_zoo.cli import main
from sr_zoo.hub import PRIOR, CheckpointError
from sr_zoo.publish import _write_card, push_all
from tests.conftest import ROOT
from tests.hub.conftest import files_of, log_in
from tests.hub.test_faults import LATER
from tests.hub.test_pull import changed, same


def published(hub, name="ada/tiny", revision="main") -> dict[str, bytes]:
    return {k: v for k, v in hub.repos[name].tree(revision)[1].items() if k != ".gitattributes"}


def test_everything_arrives_in_one_commit(hub, ada, checkpoint, model):
    (checkpoint / "notes.txt").write_text("mine")
    (checkpoint / ".env").write_text("HF_TOKEN=secret")
    wanted = {k: v for k, v in files_of(checkpoint).items() if k not in ("notes.txt", ".env")}
    address = sr_zoo.push(checkpoint, "ada/tiny")
    assert address == f"{hub.url}/ada/tiny/commit/{hub.repos['ada/tiny'].refs['main']}"
    assert hub.count("POST", "/commit/") == 1 and not hub.repos["ada/tiny"].private
    got = published(hub)
    card = got.pop("README.md").decode()
    assert got == {k: v for k, v in wanted.items() if k != "README.md"}
    assert 'sr_zoo.load("ada/tiny")' in card and card.replace("ada/tiny", "tiny").encode() == wanted["README.md"]

    assert same(sr_zoo.load("ada/tiny"), model)
    assert sr_zoo.push(checkpoint, "ada/tiny") == address, "nothing new, no commit"
    assert hub.count("POST", "/commit/") == 1 and hub.count("PUT", "/lfs/") == 1
    changed(checkpoint, 3)
    assert sr_zoo.push(checkpoint, "ada/tiny") != address and hub.count("POST", "/commit/") == 2


def test_what_an_earlier_model_left_is_taken_away(hub, ada, checkpoint, model):
    hub.add("ada/tiny", {PRIOR: b"old", "recipe-1.yaml": b"old", "LICENSE": b"kept"})
    sr_zoo.push(checkpoint, "ada/tiny")
    assert set(published(hub)) == {*files_of(checkpoint), "LICENSE"} and hub.count("POST", "/commit/") == 1


def test_a_pull_request_leaves_the_main_branch_alone(hub, ada, checkpoint, model, monkeypatch):
    sr_zoo.push(checkpoint, "ada/tiny")
    before = dict(published(hub))
    new = changed(checkpoint, 4)
    log_in(monkeypatch, hub, "hf_bob")
    with pytest.raises(CheckpointError, match="ada/tiny: the token does not allow this .bob may not write to ada/tiny."):
        sr_zoo.push(checkpoint, "ada/tiny")
    assert sr_zoo.push(checkpoint, "ada/tiny", create_pr=True) == f"{hub.url}/ada/tiny/discussions/1"
    assert published(hub) == before and same(sr_zoo.load("ada/tiny"), model)
    assert same(sr_zoo.load("ada/tiny", revision="refs/pr/1"), new)
    with pytest.raises(CheckpointError, match="ada/none: no such"):
        sr_zoo.push(checkpoint, "ada/none", create_pr=True)


def test_a_branch_is_made(hub, ada, checkpoint, model):
    sr_zoo.push(checkpoint, "ada/tiny")
    before = dict(published(hub))
    new = changed(checkpoint, 5)
    for _ in range(2):
        sr_zoo.push(checkpoint, "ada/tiny", revision="try/this")
    assert (
        published(hub) == before and same(sr_zoo.load("ada/tiny", "try/this"), new) and same(sr_zoo.load("ada/tiny"), model)
    )


def test_private_is_private(hub, ada, checkpoint, monkeypatch):
    sr_zoo.push(checkpoint, "ada/secret", private=True)
    assert hub.repos["ada/secret"].private
    hub.add("ada/open", {"README.md": b"x"})
    with pytest.raises(CheckpointError, match="^ada/open: is public already"):
        sr_zoo.push(checkpoint, "ada/open", private=True)
    assert published(hub, "ada/open") == {"README.md": b"x"}


LACKS = {
    "results": (lambda f: (f / "results.json").unlink(), "results.json"),
    "empty results": (lambda f: (f / "results.json").write_text("[]"), "results.json"),
    "results of another kind": (lambda f: (f / "results.json").write_text('[{"psnr": 1}]'), "results.json"),
    "recipe": (lambda f: (f / "recipe.yaml").unlink(), "recipe.yaml"),
    "card": (lambda f: (f / "README.md").unlink(), "README.md .the model card.*, a licence .*, what it was trained on"),
    "licence": (lambda f: edit(f, "license: cc0-1.0\n", ""), "lacks a licence"),
    "training data": (lambda f: edit(f, "Nothing: its weights are random.", ""), "lacks what it was trained on and under which terms"),
    "heading": (lambda f: edit(f, "## Training data", "## Other"), "lacks what it was trained on"),
    "metadata": (lambda f: edit(f, "license: cc0-1.0", "license: ["), "README.md: not pushed; cannot be read"),
    "weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: no such file"),
    "all of the weights": (lambda f: (f / "model.safetensors").write_bytes(b"x" * 99), "model.safetensors: damaged"),
}  # fmt: skip


def edit(folder, old: str, new: str) -> None:
    card = (folder / "README.md").read_text()
    assert old in card
    (folder / "README.md").write_text(card.replace(old, new))


@pytest.mark.parametrize("name", LACKS)
def test_what_lacks_something_is_not_published(name, hub, ada, checkpoint):
    damage, message = LACKS[name]
    damage(checkpoint)
    with pytest.raises(CheckpointError, match=message) as error:
        sr_zoo.push(checkpoint, "ada/tiny")
    assert "\n" not in str(error.value) and "tiny" in str(error.value) and not hub.requests


PASSING = {
    "asked to wait at first": ("POST", "/repos/create", "status", LATER),
    "500 twice at first": ("POST", "/repos/create", "status", {"times": 2}),
    "500 twice for the card": ("POST", "/validate-yaml", "status", {"times": 2}),
    "500 twice for what there is": ("POST", "/preupload/", "status", {"times": 2}),
    "500 twice for the weights": ("PUT", "/lfs/", "status", {"times": 2}),
    "the weights are taken and nobody says so": ("PUT", "/lfs/", "deaf", {}),
    "500 twice for the commit": ("POST", "/commit/", "status", {"times": 2}),
    "asked to wait for the commit": ("POST", "/commit/", "status", LATER),
    "the commit is made and nobody says so": ("POST", "/commit/", "deaf", {}),
}


@pytest.mark.parametrize("name", PASSING)
def test_another_try_publishes_once(name, hub, ada, waits, checkpoint, model):
    method, part, what, options = PASSING[name]
    hub.fault(method, part, what, **options)
    address = sr_zoo.push(checkpoint, "ada/tiny")
    assert not hub.faults[0].times and 0 < sum(waits) < 30 and (max(waits) >= 7) == ("asked to wait" in name)
    assert len(hub.repos["ada/tiny"].trees) == 2, "that of its making, and one"
    assert address.endswith(hub.repos["ada/tiny"].refs["main"]) and same(sr_zoo.load("ada/tiny"), model)


LASTING = {
    "no repository": ("POST", "/repos/create", "status", {}, "the Hub answers with error 500"),
    "an hour": (
        "POST",
        "/repos/create",
        "status",
        {"status": 429, "headers": {"Retry-After": "3600"}},
        "try again in 3600 s",
    ),
    "no weights": ("PUT", "/lfs/", "status", {}, "Error while uploading 'model.safetensors' .*500"),
    "no connection for the weights": ("PUT", "/lfs/", "deaf", {}, "Error while uploading 'model.safetensors'"),
    "no commit": ("POST", "/commit/", "status", {}, "the Hub answers with error 500"),
    "bad metadata": ("POST", "/validate-yaml", "status", {"status": 400}, "Invalid metadata in README.md|Expecting value"),
    "somebody was faster": ("POST", "/commit/", "status", {"status": 412}, "somebody else changed it meanwhile"),
}


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_leaves_the_repository_as_it_was(name, hub, ada, waits, checkpoint):
    hub.add("ada/tiny", {"README.md": b"before"})
    method, part, what, options, message = LASTING[name]
    hub.fault(method, part, what, times=10**6, **options)
    with pytest.raises(CheckpointError, match=f"^ada/tiny: .*({message})") as error:
        sr_zoo.push(checkpoint, "ada/tiny")
    assert "\n" not in str(error.value) and sum(waits) < 120 and len(hub.requests) < 60
    assert published(hub) == {"README.md": b"before"}


def test_a_commit_on_another_than_the_one_seen_is_refused(hub, ada, checkpoint, monkeypatch):
    """Two who push at once do not mix their files."""
    from huggingface_hub import HfApi

    hub.add("ada/tiny", {"README.md": b"before"})
    look = HfApi.model_info

    def look_and_be_overtaken(self, *arguments, **options):
        seen = look(self, *arguments, **options)
        hub.add("ada/tiny", {"README.md": b"faster"})
        return seen

    monkeypatch.setattr(HfApi, "model_info", look_and_be_overtaken)
    with pytest.raises(CheckpointError, match="ada/tiny: somebody else changed it meanwhile; try again"):
        sr_zoo.push(checkpoint, "ada/tiny")
    assert published(hub) == {"README.md": b"faster"}


def test_a_lost_answer_makes_no_second_pull_request(hub, ada, checkpoint):
    hub.add("ada/tiny", {"README.md": b"before"})
    hub.fault("POST", "/commit/", "deaf")
    with pytest.raises(CheckpointError, match="ada/tiny: the connection to the Hub failed"):
        sr_zoo.push(checkpoint, "ada/tiny", create_pr=True)
    assert hub.repos["ada/tiny"].pull_requests == 1


@pytest.mark.parametrize(
    "token, message", [(False, "not logged in"), ("hf_eve", "not logged in"), ("hf_bob", "not allow this")]
)
def test_who_may_not_publish(token, message, hub, cache, checkpoint, monkeypatch):
    log_in(monkeypatch, hub, token)
    with pytest.raises(CheckpointError, match=f"^ada/tiny: .*{message}"):
        sr_zoo.push(checkpoint, "ada/tiny")
    assert not hub.repos


def test_a_model_publishes_the_folder_it_came_from(hub, ada, checkpoint, model):
    loaded = sr_zoo.load(checkpoint)
    assert loaded.push_to_hub("ada/tiny", private=True) == f"{hub.url}/ada/tiny/commit/{hub.repos['ada/tiny'].refs['main']}"
    assert hub.repos["ada/tiny"].private and same(sr_zoo.load("ada/tiny"), model)
    model.push_to_hub("ada/other", checkpoint)
    with torch.no_grad():
        loaded.generator.tail.bias += 1
    asked = len(hub.requests)
    with pytest.raises(CheckpointError, match="not pushed; it is another model than this one"):
        loaded.push_to_hub("ada/tiny")
    with pytest.raises(CheckpointError, match="ada/x: not pushed; this model comes from no folder"):
        model.push_to_hub("ada/x")
    assert len(hub.requests) == asked


@pytest.fixture
def zoo(checkpoint, tmp_path, monkeypatch):
    """Two models ship."""
    folders = {name: tmp_path / "zoo" / name for name in ("one", "two")}
    for folder in folders.values():
        shutil.copytree(checkpoint, folder)
    monkeypatch.setattr("sr_zoo.hub._shipped", lambda: folders)
    return folders


def test_the_whole_zoo(hub, ada, zoo, capsys, model):
    (zoo["two"] / "recipe.yaml").rename(zoo["two"] / "kept")
    with pytest.raises(CheckpointError, match="two: not pushed; it lacks recipe.yaml"):
        push_all("ada")
    assert not hub.requests, "all are checked before the first is pushed"
    (zoo["two"] / "kept").rename(zoo["two"] / "recipe.yaml")
    assert main(["push", "--all", "--namespace", "ada"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split(" → ")[0] for line in out] == ["one", "two"] and all(f"{hub.url}/ada/" in line for line in out)
    assert same(sr_zoo.load("ada/one"), model) and same(sr_zoo.load("ada/two"), model)


def test_commands(hub, ada, checkpoint, capsys, tmp_path, model):
    assert main(["push", str(checkpoint), "ada/tiny", "--private", "--revision", "new"]) == 0
    assert capsys.readouterr().out == f"{checkpoint} → {hub.url}/ada/tiny/commit/{hub.repos['ada/tiny'].refs['new']}\n"
    assert main(["push", str(checkpoint), "ada/tiny", "--create-pr"]) == 0
    assert main(["pull", "ada/tiny", "-o", str(tmp_path / "out"), "--revision", "refs/pr/1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"ada/tiny → {tmp_path / 'out'}"
    assert same(sr_zoo.load(tmp_path / "out"), model)
    (checkpoint / "recipe.yaml").unlink()
    for arguments, message in (
        (["pull", "ada/none"], "ada/none: no such"), (["pull", "none"], "none: not a Hub repository"),
        (["pull", "ada/tiny", "--revision", "refs/pr/1", "-o", str(tmp_path / "out")], "out: cannot be written"),
        (["push", str(checkpoint), "ada/tiny"], "lacks recipe.yaml"), (["push", "mse-x4", "tiny"], "tiny: not a Hub repository"),
        (["push", "ada/tiny", "ada/other"], "ada/tiny: no such folder"),
        (["upscale", "x.png", "--model", "ada/none"], "ada/none: no such"),
    ):  # fmt: skip
        assert main(arguments) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("sr-zoo: ") and message in line


def test_the_lines_of_the_readme(hub, ada, checkpoint, tmp_path, monkeypatch):
    """The job of README.md, with a small model at someone's."""
    text = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"<!-- hub -->\n```bash\n(.*?)```", text, re.DOTALL)
    hub.add("someone/affmse-x4", files_of(checkpoint))
    hub.tokens["hf_me"] = "me"
    log_in(monkeypatch, hub, "hf_me")
    shutil.copytree(checkpoint, tmp_path / "work" / "runs" / "mine")
    (tmp_path / "work" / "examples").mkdir()
    shutil.copy(ROOT / "examples" / "astronaut.png", tmp_path / "work" / "examples")
    monkeypatch.chdir(tmp_path / "work")
    for line in block.splitlines():
        assert main(shlex.split(line)[1:]) == 0, line
    assert (tmp_path / "work" / "examples" / "astronaut_x4.png").is_file()
    assert files_of(tmp_path / "work" / "theirs") == files_of(checkpoint) and hub.repos["me/affmse-x4-mine"].private


def test_the_jobs_of_the_readme(hub, cache, tmp_path, monkeypatch, picture):
    """Fine-tune, upscale, measure, publish, line by line; one step instead of the thousand, small pictures instead of the sets."""
    (block,) = re.findall(r"<!-- jobs -->\n```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    more = {"finetune": ["--steps", "1"], "benchmark": ["--data", "sets"]}
    hub.tokens["hf_me"] = "me"
    log_in(monkeypatch, hub, "hf_me")
    monkeypatch.chdir(tmp_path)
    for folder in ("PHOTOS", "sets/Set5", "sets/Set14", "sets/BSD100", "examples"):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(picture).resize((128, 128)).rotate(i).save(tmp_path / folder / f"{i}.png")
    shutil.copy(ROOT / "examples" / "astronaut.png", tmp_path / "examples")
    assert len(block.splitlines()) <= 5
    for line in block.splitlines():
        words = shlex.split(line)[1:]
        assert main([*words, *more.get(words[0], [])]) == 0, line
    card = published(hub, "me/mine")["README.md"].decode()
    assert (
        "license: cc-by-nc-4.0" in card
        and "Fine-tuned from *affmse-x4*" in card
        and "My own photos of my garden." in card
        and 'sr_zoo.load("me/mine")' in card
    )
    # The row of affmse-x4, which was measured beside it, is none of its own.
    assert [card.count(f"| {name} |") for name in ("Set5", "Set14", "BSD100")] == [1, 1, 1]
    assert [card.count(f"name: {name}\n") for name in ("Set5", "Set14", "BSD100")] == [1, 1, 1]
    assert set(published(hub, "me/mine")) == {"README.md", "config.json", "model.safetensors", "recipe.yaml", "results.json"}


def test_a_push_that_did_not_come_through_may_be_made_again(checkpoint):
    (checkpoint / "README.md").unlink()
    for _ in range(2):
        _write_card(checkpoint, "mit", "Mine.")
    with pytest.raises(CheckpointError, match="README.md: not pushed; it is there already"):
        _write_card(checkpoint, "mit", "Mine and my neighbour's.")


def test_a_card_hides_neither_another_nor_what_is_lacking(hub, ada, checkpoint):
    before = files_of(checkpoint)
    with pytest.raises(CheckpointError, match="README.md: not pushed; it is there already"):
        sr_zoo.push(checkpoint, "ada/tiny", licence="mit", training_data="Mine.")
    assert files_of(checkpoint) == before
    (checkpoint / "README.md").unlink()
    with pytest.raises(CheckpointError, match="--licence and --training-data write one"):
        sr_zoo.push(checkpoint, "ada/tiny")
    with pytest.raises(CheckpointError, match="together"):
        sr_zoo.push(checkpoint, "ada/tiny", licence="cc0-1.0")
    (checkpoint / "results.json").unlink()
    with pytest.raises(CheckpointError, match="lacks results.json"):
        sr_zoo.push(checkpoint, "ada/tiny", licence="cc0-1.0", training_data="Nothing.")
    assert not hub.repos and not (checkpoint / "README.md").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["push", "mse-x4", "a/b", "--licence", "mit"], "together"),
        (["push"], "give CHECKPOINT and REPO"), (["push", "mse-x4"], "give CHECKPOINT and REPO"),
        (["push", "--all"], "go together"), (["push", "mse-x4", "a/b", "--namespace", "a"], "go together"),
        (["push", "mse-x4", "a/b", "--all", "--namespace", "a"], "give CHECKPOINT and REPO"),
        (["push", "mse-x4", "--all", "--namespace", "a"], "give CHECKPOINT and REPO"),
        (["push", "mse-x4", "a/b", "--create-pr", "--revision", "x"], "starts from the main branch"),
    ],
)  # fmt: skip
def test_usage(arguments, message, capsys):
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sr-zoo: push: ") and message in line
