"""The closed forms of EVTP-IVS's supplement, section A.2, verbatim: what its authors count for InstructSeg.

They call multiply-adds FLOPs. They leave out Swin, the pixel decoder, the projector, the MLPs of the vision encoder and
the template's tokens, and they count a language head that segmentation does not run; mode "exact" counts what is run.
"""

from __future__ import annotations

from leanseg.costs.datasets import DataSet
from leanseg.costs.readings import PaperReadings

# The hyperparameters that A.2 lists, in its letters.
D, D_INT, L, VOCABULARY = 2560, 10240, 32, 51200
D_V, N, L_V = 1152, 729, 27
Q, D_M, L_D = 100, 256, 9
Q_T, L_T = 128, 3
D_F, L_F = 1024, 3
T_FIXED = 100


def sequence_length(dataset: DataSet, kept: int, readings: PaperReadings) -> int:
    """S = T + T_fixed + V', where V' is multiplied with the frames or not."""
    return dataset.text_tokens + T_FIXED + kept * (dataset.frames if readings.seq_reading == "VF" else 1)


def counts(dataset: DataSet, kept: int, readings: PaperReadings) -> dict[str, float]:
    """Return the six terms in multiply-adds: lm, vision, prune, mask, temporal, vmtf."""
    length = sequence_length(dataset, kept, readings)
    t_eff = {"T": dataset.text_tokens, "T+fix": dataset.text_tokens + T_FIXED, "S": length}[readings.teff]
    read_tokens = kept * (dataset.frames if readings.mask_reading == "VF" else 1)
    encoder_passes = dataset.frames if readings.vision_times_frames else 1
    has_temporal = dataset.is_video or readings.temporal_on_images
    return {
        "lm": language_model(length),
        "vision": encoder_passes * vision_encoder(),
        "prune": _pruning(dataset.frames, kept, readings),
        "mask": mask_decoder(read_tokens),
        "temporal": temporal_reasoning(dataset.frames) if has_temporal else 0,
        "vmtf": text_fusion(t_eff, read_tokens),
    }


def language_model(length: int) -> int:
    """L (3 S d^2 + 2 S^2 d + S d^2 + 2 S d d_int) + S d |V|."""
    attention = 3 * length * D**2 + 2 * length**2 * D + length * D**2
    return L * (attention + 2 * length * D * D_INT) + length * D * VOCABULARY


def vision_encoder() -> int:
    """L_v (6 N d_v^2 + 2 N^2 d_v) + N d_v d."""
    return L_V * (6 * N * D_V**2 + 2 * N**2 * D_V) + N * D_V * D


def token_pruning(tokens: int, kept: int) -> float:
    """2 V d + V V' d / 10 + V' d."""
    return 2 * tokens * D + tokens * kept * D / 10 + kept * D


def mask_decoder(kept: int) -> int:
    """L_d (12 Q d_m^2 + 2 Q^2 d_m + 2 Q V' d_m) + Q d_m V'."""
    return L_D * (12 * Q * D_M**2 + 2 * Q**2 * D_M + 2 * Q * kept * D_M) + Q * D_M * kept


def temporal_reasoning(frames: int) -> int:
    """L_t (Q_t F d^2 + 4 Q_t d^2)."""
    return L_T * (Q_T * frames * D**2 + 4 * Q_T * D**2)


def text_fusion(t_eff: int, kept: int) -> int:
    """L_f (T_eff d d_f + V' d_v d_f + 2 T_eff V' d_f)."""
    return L_F * (t_eff * D * D_F + kept * D_V * D_F + 2 * t_eff * kept * D_F)


def _pruning(frames: int, kept: int, readings: PaperReadings) -> float:
    if kept == N and not readings.prune_at_full:
        return 0
    if readings.prune_reading == "joint":
        return token_pruning(frames * N, frames * kept)
    follows = "per_frame" if readings.seq_reading == "VF" else "once"
    reading = follows if readings.prune_reading == "auto" else readings.prune_reading
    return token_pruning(N, kept) * (frames if reading == "per_frame" else 1)
