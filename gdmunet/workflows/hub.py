"""Models on a hub (huggingface.co or one that speaks its protocol): fetched for prediction, and pushed with a card.

A repository holds two files: the archive of `gdm_export_model`, which passes all of its checks before it is unpacked,
and README.md, the model card.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gdmunet import commands
from gdmunet.atomic import scratch_folder, write_text
from gdmunet.consents import file_sha256
from gdmunet.errors import GdmError
from gdmunet.inference import archive
from gdmunet.paths import Folders, downloads_allowed
from gdmunet.results import ResultsFolder
from gdmunet.workflows.model_card import CardFacts, model_card
from gdmunet.workflows.requests.models import PushModelRequest

ARCHIVE_NAME, CARD_NAME = "gdmunet_model.zip", "README.md"
_PREFIX = "hf:"
_REFERENCE = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_MODELS = "models"  # beside the encoders in their cache


@dataclass(frozen=True)
class HubModel:
    """A model in a repository ``owner/name`` at a branch, tag or commit."""

    repository: str
    revision: str = "main"

    @classmethod
    def parse(cls, text: str) -> HubModel | None:
        """The model that ``hf:owner/name@revision`` names; None for the path of a folder.

        Raises
        ------
        GdmError
            It begins so, and is another thing.
        """
        if not text.startswith(_PREFIX):
            return None
        found = _REFERENCE.fullmatch(text)
        if found is None:
            raise GdmError(
                "the model of a hub is not named as such",
                found=text,
                expected="hf:owner/name, or hf:owner/name@revision",
                remedy="correct -m",
            )
        return cls(found["repository"], found["revision"] or "main")


def fetch_model(model: HubModel, folders: Folders, hub: str | None = None) -> Path:
    """The folder of a model of a hub, downloaded and unpacked once for each commit.

    Without a network, or with HF_HUB_OFFLINE=1, the copy that was downloaded before is used.

    Parameters
    ----------
    hub
        Base address; None: ``HF_ENDPOINT``, else huggingface.co.

    Raises
    ------
    GdmError
        Nobody answers and there is no copy; no such repository, revision or archive; access is not granted; or what
        was downloaded is not a model.
    """
    from huggingface_hub import hf_hub_download

    cache = folders.encoders / _MODELS
    with _answering(model, hub):
        packed = hf_hub_download(
            model.repository,
            ARCHIVE_NAME,
            revision=model.revision,
            cache_dir=cache / "downloads",
            endpoint=hub,
            local_files_only=not downloads_allowed(),
        )
    # The cache of huggingface_hub has a folder for each commit, whose content never changes.
    place = cache / model.repository.replace("/", "--") / Path(packed).parent.name
    there = ResultsFolder(place).models() if place.is_dir() else []
    return there[0].path if there else archive.import_model(Path(packed), place)


def push_model(request: PushModelRequest, folder: Path, hub: str | None = None) -> str:
    """Pack a model, write its card, and put both into a repository, which is made if it is not there.

    Returns
    -------
    Address of the commit.

    Raises
    ------
    GdmError
        The model cannot be loaded, the hub does not take it, or nothing may be sent.
    """
    model = HubModel(request.repository)
    if not downloads_allowed():
        raise GdmError(
            "nothing is pushed while HF_HUB_OFFLINE is set",
            found="HF_HUB_OFFLINE",
            remedy="unset it, or pack the model with {command} and carry the file",
            command=commands.export_model(folder),
        )
    from huggingface_hub import HfApi

    with scratch_folder(folder) as staging:
        packed = archive.export_model(folder, staging / ARCHIVE_NAME, request.folds, request.checkpoint)
        facts = CardFacts(model.repository, request.licence, ARCHIVE_NAME, file_sha256(packed), request.checkpoint)
        write_text(staging / CARD_NAME, model_card(folder, facts, request.folds))
        api = HfApi(endpoint=hub)
        with _answering(model, hub):
            api.create_repo(model.repository, private=request.private, exist_ok=True)
            done = api.upload_folder(
                repo_id=model.repository,
                folder_path=staging,
                allow_patterns=[ARCHIVE_NAME, CARD_NAME],
                commit_message="Model of gdmunet",
            )
    return str(done.commit_url)


@contextmanager
def _answering(model: HubModel, hub: str | None) -> Iterator[None]:
    """Tell what a hub answers in words."""
    try:
        yield
    except GdmError:
        raise
    # huggingface_hub hands on what its transports raise, whose kinds change with its releases: no narrower base.
    except Exception as error:
        raise _told(model, error, hub) from error


def _told(model: HubModel, error: Exception, hub: str | None) -> GdmError:
    from huggingface_hub import constants, errors

    page = f"{hub or constants.ENDPOINT}/{model.repository}"
    expected: object = page
    if isinstance(error, errors.GatedRepoError):
        problem, remedy = "the model is gated", f"ask for access at {page}, log in with: hf auth login, then run again"
    elif isinstance(error, errors.RepositoryNotFoundError):
        problem = "there is no such repository, or it is private"
        remedy = "check owner/name; if it is private, log in with: hf auth login"
    elif isinstance(error, errors.RevisionNotFoundError):
        problem, remedy = f"the repository has no revision {model.revision}", "name a branch, a tag or a commit"
    elif _status(error) in (401, 403):
        problem, remedy = f"the hub does not allow it (status {_status(error)})", "log in as its owner: hf auth login"
    elif isinstance(error, errors.LocalEntryNotFoundError):
        problem = "the model is not in the cache, and the hub cannot be reached"
        remedy = "fetch it once with a network (HF_HUB_OFFLINE unset), or take the zip of gdm_export_model along"
    elif isinstance(error, errors.EntryNotFoundError):
        problem, expected = "the repository holds no model of gdmunet", f"the file {ARCHIVE_NAME} in {page}"
        remedy = "name one that gdm_push_model made"
    else:
        problem = "the hub cannot be reached, or it failed"
        remedy = "run the command again later; the model on this machine is unchanged"
    first = (str(error).splitlines() or [""])[0]
    return GdmError(
        problem,
        found=f"{model.repository} at {model.revision}: {type(error).__name__} {first}".strip(),
        expected=expected,
        remedy=remedy,
    )


def _status(error: BaseException | None) -> int | None:
    """The status of the answer that a failure, or what caused it, came from."""
    while error is not None:
        if (answer := getattr(error, "response", None)) is not None:
            return int(answer.status_code)
        error = error.__cause__
    return None
