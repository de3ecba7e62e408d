"""What InstructSeg really runs for one answer, layer by layer, at any sizes.

One answer is one instruction on one image, or on one key frame of a clip with its reference frames. The parts are those
of `leanseg.models.InstructSeg`; a test compares each with torch's own count on the real modules.
"""

from __future__ import annotations

from itertools import pairwise

from leanseg.costs import formulas
from leanseg.costs.datasets import DataSet
from leanseg.costs.readings import ExactReadings
from leanseg.costs.sizes import Sizes

# Ids of the release's template without its four placeholders, under its tokenizer (images, clips).
TEMPLATE_TOKENS = {False: 69, True: 80}
PLACE_DIMENSIONS = 2  # the coordinates that EVTP appends to a token's features
INSTRUCTIONS_PER_PASS = 8  # of one frame, in one batch through language model and mask decoder
N_LEVELS = 3


def refer_tokens(dataset: DataSet, readings: ExactReadings) -> int:
    """The instruction as the model reads it: its tokens and a final [SEG]."""
    return (dataset.text_tokens if readings.text_tokens is None else readings.text_tokens) + 1


def text_tokens(dataset: DataSet, readings: ExactReadings) -> int:
    """All text of the sequence: template, instruction and [SEG]."""
    given = readings.template_tokens
    return (TEMPLATE_TOKENS[dataset.is_video] if given is None else given) + refer_tokens(dataset, readings)


def n_references(dataset: DataSet, sizes: Sizes) -> int:
    """Frames that OVP condenses for one answer; an image is its own and only reference."""
    return sizes.reference_frames if dataset.is_video else 1


def sequence_length(dataset: DataSet, kept: int, readings: ExactReadings) -> int:
    """Text, OVP's tokens of every reference frame, the key frame's kept tokens, mask queries."""
    sizes = readings.sizes
    temporal = sizes.ovp_queries * n_references(dataset, sizes)
    return text_tokens(dataset, readings) + temporal + kept + sizes.queries


def counts(dataset: DataSet, kept: int, readings: ExactReadings) -> dict[str, float]:
    """Return the multiply-adds of each part for one answer.

    Cached, a clip of many frames needs one encoding, selection, projection and condensation (OVP) per key frame, as
    each frame is key frame once and serves its neighbours as reference; instructions share all but what reads text, and
    in one pass the keys and values of the mask decoder. As released, the image is encoded twice, a key frame five times
    (itself and four references).
    """
    sizes, cached = readings.sizes, readings.cached
    references = n_references(dataset, sizes)
    refer = refer_tokens(dataset, readings)
    passes: float = 1 / readings.instructions if cached else references + 1
    pixel: float = 1 / readings.instructions
    condensed = 1 if cached else references
    shared = 1 - -(-readings.instructions // INSTRUCTIONS_PER_PASS) / readings.instructions
    layers = sizes.vision_layers_run if cached else sizes.vision_layers
    encoder = vision(sizes, layers) + (0 if cached else vision_head(sizes))
    return {
        "lm": language_model(sizes, sequence_length(dataset, kept, readings)),
        "vision": passes * encoder,
        "prune": passes * selection(sizes, kept, readings),
        "projector": passes * projector(sizes, kept if readings.site == "before_projector" else sizes.n_tokens),
        "temporal": condensed * temporal(sizes, kept + refer),
        "swin": pixel * swin(sizes),
        "pixel_decoder": pixel * pixel_decoder(sizes),
        "vmtf": text_fusion(sizes, 1 if cached else 1 + refer),
        "mask": mask_queries(sizes) + mask_decoder(sizes, last_only=cached) - shared * mask_memory(sizes),
    }


def vision(sizes: Sizes, layers: int) -> int:
    """SigLIP: patch embedding and `layers` encoder layers (26 of 27 are read)."""
    width, tokens = sizes.vision_width, sizes.n_tokens
    patches = formulas.convolution(tokens, sizes.vision_patch, sizes.vision_channels, width)
    return patches + layers * formulas.transformer_layer(tokens, width, sizes.vision_hidden)


def vision_head(sizes: Sizes) -> int:
    """SigLIP's pooling head, whose output nobody reads: one query on all tokens, then a feed-forward."""
    if not sizes.vision_head:
        return 0
    width, tokens = sizes.vision_width, sizes.n_tokens
    projections = 2 * formulas.linear(1, width, width) + 2 * formulas.linear(tokens, width, width)
    attended = formulas.attention(1, tokens, width)
    return projections + attended + formulas.feed_forward(1, width, sizes.vision_hidden)


def selection(sizes: Sizes, kept: int, readings: ExactReadings) -> int:
    """One frame's choice of tokens; keeping all of them needs none."""
    if kept == sizes.n_tokens or readings.selection == "free":
        return 0
    features = sizes.vision_width if readings.site == "before_projector" else sizes.width
    return formulas.farthest_first(sizes.n_tokens, kept, features + PLACE_DIMENSIONS)


def projector(sizes: Sizes, tokens: int) -> int:
    """Two linear layers from SigLIP's width to the language model's."""
    first = formulas.linear(tokens, sizes.vision_width, sizes.width)
    return first + formulas.linear(tokens, sizes.width, sizes.width)


def temporal(sizes: Sizes, media: int) -> int:
    """OVP on one frame: its queries read `media` rows (kept tokens and instruction) and themselves."""
    layer = resampler_layer(sizes.ovp_queries, media, sizes.width, sizes.ovp_inner, sizes.ovp_factor)
    return sizes.ovp_depth * layer


def resampler_layer(latents: int, media: int, width: int, inner: int, factor: int, own: int | None = None) -> int:
    """One layer of OVP or VMTF; `own` = latents that are keys as well, None = all."""
    keys = media + (latents if own is None else own)
    projections = 2 * formulas.linear(latents, width, inner) + formulas.linear(keys, width, 2 * inner)
    attended = formulas.attention(latents, keys, inner)
    return projections + attended + formulas.feed_forward(latents, width, factor * width)


def language_model(sizes: Sizes, length: int) -> int:
    """Phi's prefill over the whole sequence, without the language head, which segmentation never runs."""
    width = sizes.width
    key_value = width * sizes.key_value_heads // sizes.heads
    projections = 2 * formulas.linear(length, width, width) + 2 * formulas.linear(length, width, key_value)
    attended = formulas.attention(length, length, width)
    return sizes.layers * (projections + attended + formulas.feed_forward(length, width, sizes.hidden))


def swin(sizes: Sizes) -> int:
    """Swin on the padded square picture; attention works on maps padded to whole windows."""
    window, total = sizes.swin_window, 0
    for stage, (side, depth) in enumerate(zip(sizes.map_sides, sizes.swin_depths, strict=True)):
        width = sizes.swin_width * 2**stage
        padded = formulas.windows(side, window)
        attended = 4 * formulas.linear(padded, width, width) + formulas.attention(padded, window**2, width)
        hidden = int(sizes.swin_mlp_ratio * width)
        total += depth * (attended + formulas.feed_forward(side**2, width, hidden))
    for stage, (_, side) in enumerate(pairwise(sizes.map_sides)):
        width = sizes.swin_width * 2**stage
        total += formulas.linear(side**2, 4 * width, 2 * width)
    return total + formulas.convolution(sizes.mask_pixels, 4, 3, sizes.swin_width)


def pixel_decoder(sizes: Sizes) -> int:
    """Input projections, deformable encoder layers, and the step to stride 4."""
    width, pixels = sizes.mask_width, sum(sizes.levels)
    channels = [sizes.swin_width * 2**stage for stage in range(4)]
    inputs = sum(
        formulas.linear(level, wide, width) for level, wide in zip(sizes.levels, reversed(channels[1:]), strict=True)
    )
    last = formulas.linear(sizes.mask_pixels, channels[0], width)
    last += formulas.convolution(sizes.mask_pixels, 3, width, width)
    last += formulas.linear(sizes.mask_pixels, width, sizes.mask_dim)
    samples = sizes.mask_heads * N_LEVELS * sizes.encoder_points
    layer = 2 * formulas.linear(pixels, width, width) + formulas.linear(pixels, width, 3 * samples)
    layer += formulas.feed_forward(pixels, width, sizes.encoder_hidden)
    return inputs + sizes.encoder_layers * layer + deformable_sampling(sizes) + last


def deformable_sampling(sizes: Sizes) -> int:
    """The weighted sum of four corners per sample, in all encoder layers; torch's counter does not see it."""
    corners = 4 * N_LEVELS * sizes.encoder_points
    return sizes.encoder_layers * sum(sizes.levels) * corners * sizes.mask_width


def text_fusion(sizes: Sizes, latents: int) -> int:
    """VMTF and the score embedding: pixels of res5 as media; the library runs the one latent that is read."""
    width, media = sizes.vmtf_width, sizes.levels[0]
    layer = resampler_layer(latents, media, width, sizes.vmtf_inner, sizes.vmtf_factor, own=1)
    local = formulas.linear(media, 8 * sizes.swin_width, width)
    texts = formulas.linear(latents + 1, sizes.width, width)
    return sizes.vmtf_depth * layer + local + texts + formulas.linear(1, 2 * width, sizes.mask_width)


def mask_queries(sizes: Sizes) -> int:
    """The mask tokens' states on their way to the mask decoder."""
    return formulas.linear(sizes.queries, sizes.width, sizes.mask_width)


def mask_decoder(sizes: Sizes, *, last_only: bool) -> int:
    """The transformer decoder's layers, the masks that steer them, and the answer.

    `last_only` = as this library: masks between layers are made at the size of the level that they are for and without
    scores; else, as released, every prediction is whole.
    """
    queries, width = sizes.queries, sizes.mask_width
    embedding = 2 * formulas.linear(queries, width, width) + formulas.linear(queries, width, sizes.mask_dim)
    scores = 2 * formulas.linear(queries, width, width) + formulas.linear(queries, width, 1)
    whole = scores + embedding + formulas.linear(queries, sizes.mask_dim, sizes.mask_pixels)
    own = formulas.self_attention(queries, width) + formulas.feed_forward(queries, width, sizes.mask_hidden)
    total = whole
    for layer in range(sizes.mask_layers):
        level = sizes.levels[layer % N_LEVELS]
        cross = 2 * formulas.linear(queries, width, width) + formulas.attention(queries, level, width)
        steering = embedding + formulas.linear(queries, sizes.mask_dim, level) if last_only else whole
        total += cross + own + steering
    return total + mask_memory(sizes)


def mask_memory(sizes: Sizes) -> int:
    """Keys and values of the pixel maps in the mask decoder's layers, which the instructions of one pass share."""
    levels = (sizes.levels[layer % N_LEVELS] for layer in range(sizes.mask_layers))
    return sum(2 * formulas.linear(level, sizes.mask_width, sizes.mask_width) for level in levels)
