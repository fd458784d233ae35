"""Keep a fitted classifier with what it fits, in a joblib file: the head.

`pipeline/head/folder.py` keeps it without a pickle, and `pipeline/head/pretrained.py` on the hub.

``joblib.load("head.joblib")`` gives a plain dict::

    format        "frostline-head"
    version       1
    estimator     a stock fitted sklearn.linear_model.LogisticRegression, on raw vectors: the
                  standardisation, temperature and prior are folded into coef_ and intercept_
    labels        list of the K class names
    sources       list of {spec, fingerprint, view, width, precision, store_dtype}: the estimator
                  takes the views of these encoders side by side, in this order
    metadata      how it was fitted, the class prior that it answers for, and its metrics
    novelty       arrays by which it knows the kind of its training rows; not in every head
    texts         digests by which it knows a sample of its training texts; not in every head

so that the file is useful with scikit-learn alone. `load_head` never unpickles it: it takes the
arrays and the texts out (`pipeline/head/safe_pickle.py`), validates them and builds a `Head`.
Loading does not need scikit-learn. A file that somebody compressed later is read as well.

To change the format, raise `VERSION`, keep reading the versions before it, and add a file of the
old version to the tests.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.base.atomic import replacing
from features.base.paths import check_input
from features.base.remote import copies
from features.errors import FileRefused, InputError, system_reason
from features.spec.encoder_spec import listed_differences
from features.spec.vector_spec import VectorSpec
from features.store.reader import FeatureStore
from pipeline.head.compressed import unpacked
from pipeline.head.content import (
    FORMAT,
    MAX_BYTES,
    VERSION,
    entry_of,
    of_estimator,
    parts_of,
)
from pipeline.head.held_out_figures import HeldOutFigures
from pipeline.head.novelty import Novelty
from pipeline.head.priors import parse_prior, shift
from pipeline.head.safe_pickle import UnpickleError, read_pickle
from pipeline.head.seal import seal_of, unsealed
from pipeline.head.training_texts import TrainingTexts
from pipeline.hub.address import Address, parse_address
from pipeline.solver.solve import softmax


@dataclass(frozen=True)
class Head:
    """A fitted multinomial logistic regression on raw vectors.

    Attributes
    ----------
    labels : tuple of str, (K,)
    coef : float64 array (K, D)
    intercept : float64 array (K,)
    sources : tuple of VectorSpec
        Whose widths add up to D.
    metadata : mapping
        JSON types: how it was fitted, and its metrics.
    novelty : Novelty, optional
        Tells how far vectors lie from those that it was fitted on.
    texts : TrainingTexts, optional
        Tells which texts it was fitted on, of a sample.
    """

    labels: tuple[str, ...]
    coef: npt.NDArray[np.float64]
    intercept: npt.NDArray[np.float64]
    sources: tuple[VectorSpec, ...]
    metadata: Mapping[str, Any]
    novelty: Novelty | None = None
    texts: TrainingTexts | None = None

    @property
    def prior(self) -> npt.NDArray[np.float64] | None:
        """The shares of the classes, (K,), that the probabilities answer for; None if unknown."""
        stated = self.metadata.get("prior")
        return None if stated is None else np.array(stated, np.float64)

    @property
    def held_out(self) -> HeldOutFigures | None:
        """Figures of held-out rows; None in heads of before, or of very many classes."""
        return HeldOutFigures.from_dict(self.metadata.get("held_out"), len(self.labels))

    @property
    def encoders(self) -> list[list[VectorSpec]]:
        """The sources of each encoder, in the order of its first one."""
        found: dict[str, list[VectorSpec]] = {}
        for source in self.sources:
            found.setdefault(source.spec.fingerprint, []).append(source)
        return list(found.values())

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        from features.base.notebook import facts_html
        from features.base.shown import listed

        meta = self.metadata
        figure = (meta.get("metrics") or {}).get("macro_recall")
        facts = {
            "labels": listed(self.labels),
            "takes": " + ".join(f"{one.view} ({one.width:,})" for one in self.sources),
            "encoders": ", ".join(
                f"{first.spec.model} ({first.spec.fingerprint[:12]})" for first, *_ in self.encoders
            ),
            "fitted on": f"{meta.get('rows', 0):,} rows, C = {meta.get('C')}",
        }
        if isinstance(figure, float):
            facts["macro recall"] = f"{figure:.4f} on {meta.get('measured_on')}"
        return facts_html("A fitted head", facts)

    def with_prior(self, prior: str | Mapping[str, float]) -> Head:
        """Give a head of the same evidence for another prior: see `pipeline/head/priors.py`.

        Parameters
        ----------
        prior : str or mapping
            `uniform`, `training`, or a share for each class; see `parse_prior`.
        """
        class_rows = self.metadata.get("class_rows")
        if self.prior is None or class_rows is None:
            raise InputError(
                "the head does not say which prior it answers for, so that it can't be moved to "
                "another; fit it again"
            )
        new = parse_prior(prior, self.labels, class_rows)
        return dataclasses.replace(
            self,
            intercept=self.intercept + shift(self.prior, new),
            metadata={**self.metadata, "prior": new.tolist()},
        )

    def predict_proba(self, X: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Give the probabilities of the classes, (N, K), for raw vectors (N, D).

        Those of a row are the same bits whichever rows are beside it.
        """
        if X.ndim != 2 or X.shape[1] != self.coef.shape[1]:
            raise InputError(
                f"vectors have shape {X.shape}; this head takes (N, {self.coef.shape[1]}): "
                + ", ".join(f"{source.view} ({source.width})" for source in self.sources)
            )
        # Added up row by row: BLAS rounds a row by how many are beside it, and by its threads.
        logits = np.einsum("nd,kd->nk", np.ascontiguousarray(X), self.coef)
        return softmax(logits + self.intercept)

    def predict(self, X: npt.NDArray[np.floating[Any]]) -> list[str]:
        """Give the most probable class of each of N raw vectors (N, D)."""
        return [self.labels[k] for k in self.predict_proba(X).argmax(axis=1)]

    def to_sklearn(self) -> Any:
        """Give a stock fitted `sklearn.linear_model.LogisticRegression` on raw vectors."""
        from sklearn.linear_model import LogisticRegression

        estimator = LogisticRegression(C=float(self.metadata.get("C", 1.0)))
        # With two classes scikit-learn keeps one row, the difference of the two.
        binary = len(self.labels) == 2
        estimator.coef_ = self.coef[1:] - self.coef[:1] if binary else self.coef.copy()
        estimator.intercept_ = (
            self.intercept[1:] - self.intercept[:1] if binary else self.intercept.copy()
        )
        estimator.classes_ = np.array(self.labels)
        estimator.n_features_in_ = self.coef.shape[1]
        estimator.n_iter_ = np.array([int(self.metadata.get("iterations", 0))], dtype=np.int32)
        return estimator

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        license: str | None = None,
        language: str | Sequence[str] = (),
        training_texts: bool = True,
        overwrite: bool = False,
    ) -> None:
        """Write a folder without a pickle: `config.json`, `head.safetensors` and `README.md`.

        Parameters
        ----------
        save_directory : path
            Is made, whole or not at all, where it is not there.
        license : str, optional
            For the card: what the hub calls it, such as `apache-2.0`.
        language : str or sequence of str
            Of the tweets, for the card: ISO codes, such as `en`.
        training_texts : bool
            Whether to keep the digests of training texts, see `pipeline/head/training_texts.py`.
        overwrite : bool
            Whether to replace files of these names.

        Raises
        ------
        InputError
            A file of one of these names is there.
        CannotContinue
            The disk refused.
        """
        from pipeline.head.pretrained import files_for, write_folder

        folder = copies.output(save_directory)
        files = files_for(
            self, folder, license=license, language=language, training_texts=training_texts
        )
        write_folder(folder, files, overwrite=overwrite)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Push a head of frostline",
        private: bool | None = None,
        token: str | bool | None = None,
        branch: str | None = None,
        create_pr: bool = False,
        license: str | None = None,
        language: str | Sequence[str] = (),
        training_texts: bool = False,
    ) -> str:
        """Put the three files of `save_pretrained` into a repository on the Hugging Face hub.

        The labels, their counts, the figures and the means of the classes go up with it. No text
        does, and no path of this machine. `docs/security.md` says what can be read from a head.

        Parameters
        ----------
        repo_id : str
            `owner/name`, or the name of a repository of your own; it is made where it is not there.
        commit_message : str
        private : bool, optional
            Of a new repository; default as its owner has it, which is public for most. True refuses
            one that is public.
        token : str or bool, optional
            Default: HF_TOKEN or what `hf auth login` kept.
        branch : str, optional
            Default `main`.
        create_pr : bool
            Whether to propose it as a pull request.
        license, language
            As for `save_pretrained`.
        training_texts : bool
            Whether the digests of training texts go up: whoever has the very text of a tweet could
            see that it is among them.

        Returns
        -------
        str
            The address of the commit or pull request.

        Raises
        ------
        InputError
            The name or the token is not right, or the repository is public and should not be.
        CannotContinue
            The hub can't be reached or has a fault.
        """
        from pipeline.head.pretrained import files_for
        from pipeline.hub.repository import upload, with_owner

        repo_id = with_owner(repo_id, token)
        files = files_for(
            self,
            Address(repo_id),
            license=license,
            language=language,
            training_texts=training_texts,
        )
        return upload(
            repo_id,
            files,
            commit_message=commit_message,
            private=private,
            token=token,
            branch=branch,
            create_pr=create_pr,
        )

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> Head:
        """Read what `save_pretrained` or `push_to_hub` wrote; safe on files from strangers.

        Parameters
        ----------
        pretrained_model_name_or_path : str or path
            A folder or joblib file, or the id of a repository on the hub, `owner/name`. What is
            here comes first.
        revision : str, optional
            Branch, tag or commit on the hub.
        token : str or bool, optional
            Default: HF_TOKEN or what `hf auth login` kept.
        cache_dir : path, optional
            Default: the hub's own cache.
        local_files_only : bool
            Whether to take what is in the cache and ask nothing.

        Raises
        ------
        InputError
            There is no such file, folder or repository, or it is not open to this user.
        FileRefused
            It is not a head, or more than a head.
        CannotContinue
            The hub can't be reached, and the repository is not in its cache.
        """
        from pipeline.head.pretrained import from_hub
        from pipeline.hub.repository import Access

        path = copies.here(pretrained_model_name_or_path)
        if path.exists():
            if revision is not None:
                raise InputError(f"`revision` {revision!r} is for the hub; {path} is here")
            return load_head(path)
        found = parse_address(path) or Address(str(pretrained_model_name_or_path))
        if revision is not None:
            found = Address(found.repo_id, revision)
        return from_hub(found, Access(token, cache_dir, local_files_only))


def views_for(sources: Sequence[VectorSpec], store: FeatureStore) -> list[str]:
    """Give the views to read from a store, if its vectors are those that `sources` describe.

    Raises
    ------
    FileRefused
        The store is of another encoder; both fingerprints are named.
    InputError
        It lacks a view.
    """
    for source in sources:
        if source.spec.fingerprint != store.fingerprint:
            differing = listed_differences(store.spec.differences(source.spec))
            raise FileRefused(
                f"{store} holds vectors of encoder {store.fingerprint[:12]}, the head was fitted "
                f"on those of encoder {source.spec.fingerprint[:12]} ({differing}): extract the "
                "tweets with the head's encoder"
            )
    return store.choose_views([source.view for source in sources])


def content_of(head: Head, weights: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a file of any format says of a head; how it keeps the weights is its own."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        **weights,
        "labels": list(head.labels),
        "sources": [entry_of(source) for source in head.sources],
        "metadata": dict(head.metadata),
    }
    if head.novelty is not None:
        content["novelty"] = head.novelty.to_dict()
    if head.texts is not None:
        content["texts"] = head.texts.to_dict()
    return content


def save_head(head: Head, path: str | Path) -> None:
    """Write the joblib file; it appears by rename, or not at all."""
    import joblib

    path = copies.output(path)
    content = content_of(head, {"estimator": head.to_sklearn()})
    with replacing(path) as aside:
        joblib.dump(content, aside, protocol=4)
        seal = seal_of(aside.read_bytes())
        with aside.open("ab") as file:
            file.write(seal)


def load_head(path: str | Path, *, max_bytes: int = MAX_BYTES) -> Head:
    """Read a head; safe on files from strangers.

    Parameters
    ----------
    path : path
        A joblib file, a folder with `config.json` and `head.safetensors`, or a repository on the
        hub as `hf:owner/name` or `hf:owner/name@revision`; see `Head.from_pretrained`.
    max_bytes : int
        Of each file, and of what it unpacks to.

    Raises
    ------
    InputError
        There is no such file, folder or repository.
    FileRefused
        It is not a head, or more than a head.
    CannotContinue
        The hub can't be reached, and the repository is not in its cache.

    Examples
    --------
    >>> from features import FeatureStore, extract
    >>> from pipeline import fit, load_head, save_head
    >>> summary = extract("examples/tweets.csv", "tweets.h5")
    >>> save_head(fit("tweets.h5", C=0.01).head, "head.joblib")
    >>> with FeatureStore("tweets.h5") as store:
    ...     load_head("head.joblib").predict_proba(store.read("mean@last4+concat")).shape
    (956, 3)
    """
    from pipeline.head import pretrained

    address = parse_address(path)
    if address is not None:
        return pretrained.from_hub(address, max_bytes=max_bytes)
    path = copies.here(path, most=max_bytes)
    if path.is_dir():
        return pretrained.from_folder(path, max_bytes=max_bytes)
    _check_is_there(path)
    try:
        if path.stat().st_size > max_bytes:
            raise FileRefused(
                f"{path} has {path.stat().st_size} bytes; a head has at most {max_bytes}"
            )
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {system_reason(error)}") from error
    try:
        content = unsealed(unpacked(data, max_bytes))
        return Head(**parts_of(read_pickle(content), of_estimator))
    except UnpickleError as error:
        raise FileRefused(f"{path} is not a frostline head: {error}") from error
    except FileRefused as error:
        raise FileRefused(f"{path}: {error}") from error


def _check_is_there(path: Path) -> None:
    """Refuse what is no file; where the name could be that of a repository, say how to give it."""
    try:
        check_input(path)
    except InputError as error:
        if path.suffix or path.exists() or not Address.is_one(str(path)):
            raise
        raise InputError(f"{error}; a head on the hub is given as {Address(str(path))}") from error
