"""The model as the rest of the program sees it: pictures and prompts in, masks out.

A ``Predictor`` is immutable after loading: nothing of one request can reach another through it. What it remembers
(text features, the detector's view of the last pictures) follows from its keys alone. Calls are safe from many
threads; who runs when is the scheduler's business.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch

from sam3_backend.embeddings.embedding import Embedding, EmbeddingKey
from sam3_backend.errors import CheckpointError, InvalidPrompt
from sam3_backend.model import weights
from sam3_backend.model.checkpoint import Checkpoint, open_checkpoint
from sam3_backend.model.clicks import CLICK_FEATURES, Clicks
from sam3_backend.model.concepts import ConceptPrompt, Concepts
from sam3_backend.model.device import answering, resolve_device, resolve_dtype
from sam3_backend.model.pace import Pace
from sam3_backend.model.preprocessing import PREPROCESSING_VERSION, PreparedPicture, normalised, prepared
from sam3_backend.model.prompt_inputs import logit_of
from sam3_backend.model.tokens import MAX_TEXT_TOKENS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
        pace: How much the device is given at a time.
        concepts: The detector, for those who measure or test its parts.
        clicks: The click decoder, for those who have several questions at a time.
    """

    max_text_tokens = MAX_TEXT_TOKENS

    def __init__(self, network: Sam3Network, checkpoint: Checkpoint, *, device: torch.device) -> None:
        self._network = network
        self._device = device
        self.pace = Pace(device, sum(each.numel() for each in network.parameters()))
        tuning = checkpoint.tuning
        self.concepts = Concepts(network, checkpoint.tokens, device, self.pace, max_iou=tuning.mask_nms_iou)
        self.clicks = Clicks(network.tracker_model, checkpoint.name, self.pace, network.architecture)
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
        if checkpoint.has_click_decoder and not self.has_click_decoder:
            made_by += " without click features"
        self.fingerprint = hashlib.sha256(made_by.encode()).hexdigest()[:16]

    @classmethod
    def load(
        cls,
        checkpoint: str = "demo",
        *,
        device: str = "auto",
        dtype: str = "auto",
        hf_token: str | None = None,
        offline: bool = False,
        clicks: bool = True,
    ) -> Predictor:
        """Load a checkpoint.

        Args:
            checkpoint: "demo", a directory, a ``sam3.pt``, or a hub id such as "facebook/sam3" or, at a commit,
                tag or branch, "facebook/sam3@<revision>".
            device: "auto", "cpu", "cuda", "cuda:N" or "mps".
            dtype: "auto", "float32", "bfloat16" or "float16".
            hf_token: Hugging Face token with access to the checkpoint.
            offline: Never ask the hub.
            clicks: Whether points and boxes will be asked. Without, a picture takes less work and memory.

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
        if not clicks:
            network.tracker_model = network.tracker_neck = None
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
        return self.encode_each([ready])[0]

    def encode_each(self, pictures: Sequence[PreparedPicture]) -> list[Embedding]:
        """Look at several pictures in one pass; what ``encode`` gives one by one, up to rounding.

        Args:
            pictures: What ``prepare`` made of them.

        Raises:
            ModelError: The model failed.
        """
        with answering("looking at the picture"):
            pixels = torch.cat([each.pixels for each in pictures])
            named = {"hidden": self._network.encode(normalised(pixels, self._device))}
            if self.has_click_decoder:
                named.update(zip(CLICK_FEATURES, self._network.click_features(named["hidden"]), strict=True))
            return [self._embedding(picture, named, at) for at, picture in enumerate(pictures)]

    def _embedding(self, picture: PreparedPicture, named: Mapping[str, torch.Tensor], at: int) -> Embedding:
        """One picture's share of a pass. Kept and dropped on its own, it may not hold on to the others' memory."""
        tensors = {name: tensor if len(tensor) == 1 else tensor[at : at + 1].clone() for name, tensor in named.items()}
        return Embedding(key=self.key(picture.content_hash), picture_hw=picture.picture_hw, tensors=tensors)

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
        with answering("looking for the concept"):
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
        with answering("looking for the concepts"):
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
        click = self.clicks.question(embedding, points, box, mask_logits, multimask, mask_threshold)
        return self.clicks.answer([click])[0]

    def warm_up(self) -> None:
        """Answer one prompt of each kind, so that the first person does not wait for one-time work; find the pace."""
        embedding = self.encode(self._blank())
        self.detect(embedding, text="object", threshold=0.0)
        if self.has_click_decoder:
            self.clicks.warm_up(embedding)
        self.concepts.forget()
        self.find_pace()

    def find_pace(self) -> None:
        """Try out how many pictures the device should look at in one pass; nothing to do on a CPU."""
        blank = self._blank()  # not in the trial, which shall time the device
        self.pace.try_pictures(lambda count: self.encode_each([blank] * count))

    def _blank(self) -> PreparedPicture:
        return self.prepare(np.zeros((self.input_size_px, self.input_size_px, 3), np.uint8))

    def make_room(self) -> None:
        """Forget everything that can be computed again, and give the memory back to the device."""
        self.concepts.forget()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _threshold(self, threshold: float | None) -> float:
        threshold = self.default_threshold if threshold is None else threshold
        if not 0 <= threshold <= 1:
            raise InvalidPrompt("A threshold lies between 0 and 1.")
        return threshold
