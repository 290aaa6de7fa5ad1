"""Models on a Hugging Face hub: ``model.push_to_hub(name)`` and ``niphash.from_pretrained(name)``.

What is pushed is the model folder and a card. A model that comes from there is read as any other folder:
nothing in it is executed.
"""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from niphash.errors import InputError
from niphash.model import CONFIG, DESCRIBER, FIT_SET, HASHER, RECORD, Model, load
from niphash.model_card import model_card

if TYPE_CHECKING:
    from huggingface_hub import ModelHubMixin

#: What is downloaded; nothing else that lies in a repository is looked at.
FILES = (CONFIG, DESCRIBER, HASHER, FIT_SET, RECORD)


def push_to_hub(model: Model, repo_id: str, **options: Any) -> str:
    """Upload a model and its card, and return the address of the commit.

    Paths of this machine (of weights, of fit photos) are left out of what is uploaded.

    Args:
        model: To be uploaded.
        repo_id: ``<user>/<name>``; made where there is none.
        **options: Of ``huggingface_hub.ModelHubMixin.push_to_hub``: ``private``, ``token``,
            ``commit_message``, ``branch``, ...

    Raises:
        InputError: the extra is not installed, or the hub refuses.
    """
    pushed = _mixin()()
    pushed.model = model  # type: ignore[attr-defined]  # given to no constructor, which would copy it into JSON
    try:
        return str(pushed.push_to_hub(repo_id, **options))
    except InputError:
        raise
    except Exception as error:  # the hub's client has many errors of its own
        why = f"cannot be pushed ({_reason(error)}); name <user>/<name>, and log in with hf auth login"
        raise InputError(f"{repo_id}: {why}") from error


def from_pretrained(name: str | os.PathLike[str], trust: Iterable[str] = (), **options: Any) -> Model:
    """Read a model from a folder, or from a hub, where it is downloaded at first use.

    Args:
        name: A model folder, or ``<user>/<name>``.
        trust: As of :func:`niphash.load`.
        **options: Of ``huggingface_hub.ModelHubMixin.from_pretrained``: ``revision``, ``token``,
            ``cache_dir``, ``local_files_only``, ...

    Raises:
        InputError: the extra is not installed, there is no such model, or it is refused.
    """
    if Path(name).is_dir():
        return load(name if isinstance(name, str) else Path(name), trust)
    try:
        found = _mixin().from_pretrained(str(name), trust=tuple(trust), **options)
    except InputError:
        raise
    except Exception as error:  # the hub's client has many errors of its own
        raise InputError(
            f"{os.fspath(name)}: no such folder, and no model of a hub ({_reason(error)}); name one of them"
        ) from error
    return cast(Model, found.model)  # type: ignore[attr-defined]


def public(model: Model) -> Model:
    """Return the model with nothing in its record and configuration that names a path of this machine."""
    record = dict(model.record)
    fit_set = record.get("fit_set")
    if isinstance(fit_set, dict) and any(mark in str(fit_set.get("source")) for mark in "/\\"):
        record["fit_set"] = {**fit_set, "source": "a folder of photos"}
    return replace(model, record=record, config=cast(dict[str, Any], _without_paths(model.config)))


def _without_paths(node: Any) -> Any:
    if isinstance(node, dict):
        cut = {"weights": "none", "data_dir": None}
        return {key: cut[key] if key in cut else _without_paths(value) for key, value in node.items()}
    return [_without_paths(value) for value in node] if isinstance(node, list) else node


def _mixin() -> "type[ModelHubMixin]":
    """Return the class that huggingface_hub works through; made here, so that the extra stays one."""
    try:
        from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
    except ImportError as error:
        raise InputError("a hub needs huggingface_hub; pip install 'niphash[hub]'") from error

    class HubModel(ModelHubMixin):
        model: Model

        def _save_pretrained(self, save_directory: Path) -> None:
            public(self.model).save(save_directory)

        @classmethod
        def _from_pretrained(cls, *, model_id: str, trust: tuple[str, ...] = (), **options: Any) -> Any:
            found = cls()
            found.model = load(snapshot_download(model_id, allow_patterns=list(FILES), **options), trust)
            return found

        def generate_model_card(self, *_: Any, **__: Any) -> ModelCard:
            return ModelCard(model_card(public(self.model)))

    return HubModel


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
