"""The frozen backbone in 4 bits, where bitsandbytes and a CUDA GPU are there."""

import importlib.util
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from oofline.config import CFG
from oofline.errors import ConfigError


def four_bit(cfg: CFG) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` that load linear layers as 4-bit NormalFloat.

    QLoRA (Dettmers et al. 2023, arXiv:2305.14314): NF4 with quantised block scales; products are
    computed in bfloat16 where the GPU has it, else in float16. Embeddings and norms stay float32.

    Args:
        cfg: reads device.

    Raises:
        ConfigError: there is no CUDA GPU, or bitsandbytes is not installed.
    """
    device = cfg.device.split(",")[0].split("+")[0].strip()
    if not torch.cuda.is_available() or not device.startswith(("auto", "cuda")):
        raise ConfigError(
            "lora_4bit needs a CUDA GPU, and the device here is another: leave out lora_4bit, or "
            "train on a machine with a GPU"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            'lora_4bit needs the package bitsandbytes: pip install "oofline[4bit]", or leave out '
            "lora_4bit"
        )
    compute = torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute,
        ),
        "device_map": {"": "cuda" if device == "auto" else device},
    }  # fmt: skip
