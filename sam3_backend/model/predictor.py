"""The model as the rest of the program sees it: pictures and prompts in, masks out.

A ``Predictor`` is immutable after loading: nothing of one request can reach another through it. What it remembers
(text features, the detector's view of the last pictures) follows from its keys alone. Calls are safe from many
threads; who runs when is the scheduler's business.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from sam3_backend.embeddings.embedding import Embedding, EmbeddingKey
from sam3_backend.errors import CheckpointError, InvalidPrompt
from sam3_backend.model import weights
from sam3_backend.model.checkpoint import Checkpoint, open_checkpoint
from sam3_backend.model.clicks import CLICK_FEATURES, ClickPrompt, segment
from sam3_backend.model.concepts import ConceptPrompt, Concepts
from sam3_backend.model.device import answering, in_one_thread, is_small, resolve_device, resolve_dtype
from sam3_backend.model.preprocessing import PREPROCESSING_VERSION, PreparedPicture, normalised, prepared
from sam3_backend.model.prompt_inputs import logit_of
from sam3_backend.model.tokens import MAX_TEXT_TOKENS

PROMPTS_AT_ONCE = 8
"""Texts on one picture that go through the network together."""

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from PIL import Image

    from sam3_backend.model.answers import Detections, Segmentation
    from sam3_backend.model.network import Sam3Network


class Predictor:
    """A loaded SAM 3. Make one with ``load``.

    Attributes:
        name: For people: "demo", "facebook/sam3", a directory's or file's name.
        fingerprint: Short hex of weights, dimensions, preprocessing version and dtype; goes into embedding keys.
        checkpoint_fingerprint: Short hex of weights and dimensions alone.
        device: "cpu", "cuda:0", ...
        dtype: "float32", "bfloat16" or "float16".
        input_size_px: Side of the square the network reads.
        low_res_size_px: Side of the square mask logits come in.
        default_threshold: Detections need a higher score than this, unless a caller says otherwise.
        mask_nms_iou: Overlap above which the checkpoint wants duplicates dropped; None for official behaviour.
        has_click_decoder: False for checkpoints that answer text and exemplars alone.
        concepts: The detector, for those who measure or test its parts.
    """

    max_text_tokens = MAX_TEXT_TOKENS

    def __init__(self, network: Sam3Network, checkpoint: Checkpoint, *, device: torch.device) -> None:
        self._network = network
        self._device = device
        small = is_small(sum(each.numel() for each in network.parameters()))
        self._prompts_in_one_thread = small and device.type == "cpu"
        # One prompt fills a CPU with a large network; everything else has room for several.
        at_once = PROMPTS_AT_ONCE if small or device.type == "cuda" else 1
        tuning = checkpoint.tuning
        self.concepts = Concepts(network, checkpoint.tokens, device, at_once=at_once, max_iou=tuning.mask_nms_iou)
        self.name = checkpoint.name
        self.device = str(device)
        self.dtype = str(network.dtype).removeprefix("torch.")
        self.input_size_px = checkpoint.architecture.input_size_px
        self.low_res_size_px = checkpoint.architecture.low_res_size_px
        self.default_threshold = tuning.default_threshold
        self.mask_nms_iou = tuning.mask_nms_iou
        self.has_click_decoder = network.tracker_model is not None
        self.checkpoint_fingerprint = weights.fingerprint(checkpoint)
        made_by = f"{self.checkpoint_fingerprint} {PREPROCESSING_VERSION} {self.dtype}"
        self.fingerprint = hashlib.sha256(made_by.encode()).hexdigest()[:16]

    @property
    def texts_at_once(self) -> int:
        """How many texts ``detect_each`` answers in one pass; 1 where nothing is gained from more."""
        return self.concepts.at_once

    @classmethod
    def load(
        cls,
        checkpoint: str = "demo",
        *,
        device: str = "auto",
        dtype: str = "auto",
        hf_token: str | None = None,
        offline: bool = False,
    ) -> Predictor:
        """Load a checkpoint.

        Args:
            checkpoint: "demo", a directory, a ``sam3.pt``, or a hub id such as "facebook/sam3" or, at a commit,
                tag or branch, "facebook/sam3@<revision>".
            device: "auto", "cpu", "cuda", "cuda:N" or "mps".
            dtype: "auto", "float32", "bfloat16" or "float16".
            hf_token: Hugging Face token with access to the checkpoint.
            offline: Never ask the hub.

        Raises:
            CheckpointError: The checkpoint cannot be found or used, or the device has no room for it.
            SettingsError: There is no such device or precision.
        """
        where = resolve_device(device)
        opened = open_checkpoint(checkpoint, hf_token=hf_token, offline=offline)
        parameters = sum(tensor.numel() for tensor in opened.tensors.values())
        precision = resolve_dtype(dtype, where, parameters)
        try:
            network = weights.build(opened, device=where, dtype=precision)
        except torch.OutOfMemoryError as fault:
            raise CheckpointError(
                f"{opened.name} does not fit into the memory that {where} has left. Stop what else uses it, set "
                "DTYPE=float16 where it is float32, or DEVICE=cpu, which is slower."
            ) from fault
        return cls(network, opened, device=where)

    def key(self, content_hash: str) -> EmbeddingKey:
        """The key of a picture's embedding.

        Args:
            content_hash: SHA-256 of the upright RGB pixels and size, hex.
        """
        return EmbeddingKey(content_hash, self.fingerprint)

    def prepare(
        self, image: npt.NDArray[np.uint8] | Image.Image, *, content_hash: str | None = None
    ) -> PreparedPicture:
        """Do what ``encode`` does before it needs the device; arguments and errors are those of ``encode``."""
        return prepared(image, self.input_size_px, content_hash)

    def encode(
        self, image: npt.NDArray[np.uint8] | Image.Image | PreparedPicture, *, content_hash: str | None = None
    ) -> Embedding:
        """Look at a picture once, for any number of prompts.

        Args:
            image: (H, W, 3) uint8 RGB [0, 255], upright; or a Pillow image, whose EXIF orientation is applied; or what
                ``prepare`` made of either.
            content_hash: SHA-256 of what the picture is made of, hex; of size and pixels where it is None.

        Raises:
            InvalidPrompt: The array is no RGB picture.
            ModelError: The model failed.
        """
        ready = image if isinstance(image, PreparedPicture) else self.prepare(image, content_hash=content_hash)
        with answering("looking at the picture"):
            hidden = self._network.encode(normalised(ready.pixels, self._device))
            tensors = {"hidden": hidden}
            if self.has_click_decoder:
                tensors.update(zip(CLICK_FEATURES, self._network.click_features(hidden), strict=True))
        return Embedding(key=self.key(ready.content_hash), picture_hw=ready.picture_hw, tensors=tensors)

    def detect(
        self,
        embedding: Embedding,
        *,
        text: str | None = None,
        exemplars: npt.ArrayLike | None = None,
        threshold: float | None = None,
        mask_threshold: float = 0.5,
    ) -> Detections:
        """Find every instance of a concept.

        Args:
            embedding: Of the picture, from this predictor.
            text: A noun phrase of at most 32 tokens. Without one the exemplars speak alone.
            exemplars: (n, 4) xyxy in pixels of the picture, or (n, 5) with a label: 1 "like this", 0 "not like this".
            threshold: Only instances with a higher detection score, [0, 1]; None for ``default_threshold``.
            mask_threshold: Pixels with a higher probability belong to an instance, (0, 1).

        Raises:
            InvalidPrompt: Neither text nor exemplars, too long a text, a coordinate outside the picture.
            ModelError: The model failed.
        """
        threshold = self._threshold(threshold)
        cut = logit_of(mask_threshold)
        prompt = ConceptPrompt.checked(text, exemplars, embedding.picture_hw)
        with self._answering("looking for the concept"):
            return self.concepts.detect(embedding, [prompt], threshold=threshold, cut=cut)[0]

    def detect_each(
        self,
        embedding: Embedding,
        texts: Sequence[str],
        *,
        threshold: float | None = None,
        mask_threshold: float = 0.5,
    ) -> tuple[Detections, ...]:
        """Find every instance of several concepts, one text each; what ``detect`` gives one by one, up to rounding.

        Args:
            embedding: Of the picture, from this predictor.
            texts: Noun phrases of at most 32 tokens.
            threshold: As in ``detect``.
            mask_threshold: As in ``detect``.

        Returns:
            One answer a text, in order.

        Raises:
            InvalidPrompt: As in ``detect``.
            ModelError: The model failed.
        """
        threshold = self._threshold(threshold)
        cut = logit_of(mask_threshold)
        prompts = [ConceptPrompt.checked(text, None, embedding.picture_hw) for text in texts]
        with self._answering("looking for the concepts"):
            return tuple(self.concepts.detect(embedding, prompts, threshold=threshold, cut=cut))

    def segment(
        self,
        embedding: Embedding,
        *,
        points: npt.ArrayLike | None = None,
        box: npt.ArrayLike | None = None,
        mask_logits: npt.ArrayLike | None = None,
        multimask: bool | None = None,
        mask_threshold: float = 0.5,
    ) -> Segmentation:
        """Find the one object that points and a box ask for.

        Args:
            embedding: Of the picture, from this predictor.
            points: (n, 2) XY in pixels of the picture, all on the object, or (n, 3) with a label: 1 on it, 0 beside it.
            box: (4,) xyxy in pixels of the picture.
            mask_logits: (s, s) logits of an earlier answer to refine.
            multimask: Three masks or one; None for the official rule: three for a single click, else one.
            mask_threshold: Pixels with a higher probability belong to the object, (0, 1).

        Raises:
            InvalidPrompt: No prompt, or one that is out of range.
            ModelError: The model failed.
        """
        head = self._network.tracker_model
        if head is None:
            raise InvalidPrompt(f"The checkpoint {self.name} has no click decoder: use text or exemplars.")
        cut = logit_of(mask_threshold)
        prompt = ClickPrompt.checked(points, box, mask_logits, multimask, embedding.picture_hw, self.low_res_size_px)
        with self._answering("looking for the object"):
            return segment(head, embedding, prompt, frame_px=self.input_size_px, cut=cut)

    def warm_up(self) -> None:
        """Answer one prompt of each kind, so that the first person does not wait for one-time work."""
        blank = np.zeros((self.input_size_px, self.input_size_px, 3), np.uint8)
        embedding = self.encode(blank)
        self.detect(embedding, text="object", threshold=0.0)
        if self.has_click_decoder:
            self.segment(embedding, points=[(1, 1)])
            self.segment(embedding, box=(1, 1, self.input_size_px - 1, self.input_size_px - 1))
        self.concepts.forget()

    def make_room(self) -> None:
        """Forget everything that can be computed again, and give the memory back to the device."""
        self.concepts.forget()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @contextmanager
    def _answering(self, what: str) -> Iterator[None]:
        """Answer a prompt; ``answering`` says what may be raised."""
        with answering(what), ExitStack() as threads:
            if self._prompts_in_one_thread:
                threads.enter_context(in_one_thread())
            yield

    def _threshold(self, threshold: float | None) -> float:
        threshold = self.default_threshold if threshold is None else threshold
        if not 0 <= threshold <= 1:
            raise InvalidPrompt("A threshold lies between 0 and 1.")
        return threshold
