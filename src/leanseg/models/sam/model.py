"""SAM whole: image encoder, prompt encoder and mask decoder under the released names."""

from __future__ import annotations

from torch import Tensor, nn

from leanseg.models.sam.config import SamConfig
from leanseg.models.sam.image_encoder import ImageEncoder
from leanseg.models.sam.mask_decoder import MaskDecoder
from leanseg.models.sam.prompt_encoder import PromptEncoder
from leanseg.shapes import Float


class Sam(nn.Module):
    """The three parts; `sam.image_encoder(pixels)` and then `sam.masks(...)`, or any part by itself."""

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = ImageEncoder(config)
        self.prompt_encoder = PromptEncoder(config)
        self.mask_decoder = MaskDecoder(config)

    def masks(
        self, image: Float[Tensor, "b c h w"], embeddings: Float[Tensor, "r s c"]
    ) -> tuple[Float[Tensor, "r 1 mh mw"], Float[Tensor, "r 1"]]:
        """Return one mask's logits (R, 1, 4h, 4w) and its predicted quality for each of R rows of prompt embeddings.

        `image`: one embedding per row, or a single one for all. No row in, no mask out.
        """
        if embeddings.shape[0] == 0:
            height, width = image.shape[2:]
            return image.new_zeros((0, 1, 4 * height, 4 * width)), image.new_zeros((0, 1))
        sparse, dense = self.prompt_encoder(embeddings=embeddings)
        masks, qualities = self.mask_decoder(image, self.prompt_encoder.image_pe(), sparse, dense)
        return masks, qualities
