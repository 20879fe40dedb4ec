"""What make_gguf_goldens.py and make_gguf_community.py have in common: keys of a tiny Gemma, its tokens and a tiny tower, a file's end,
and tensors decoded by the gguf package as a .safetensors file. Keys are written in the order of the calls."""
import json
import struct
from importlib.metadata import version

import numpy as np

BYTES_AND_SPECIALS = [("<pad>", 3, 0), ("<eos>", 3, 0), ("<bos>", 3, 0), ("<unk>", 2, 0)] + [(f"<0x{b:02X}>", 6, 0) for b in range(256)]


def add_text(w, name, width, n_layers, mlp_width, n_heads, n_kv_heads, head_dim):
    w.add_name(name)
    w.add_context_length(8192)
    w.add_embedding_length(width)
    w.add_block_count(n_layers)
    w.add_feed_forward_length(mlp_width)
    w.add_head_count(n_heads)
    w.add_head_count_kv(n_kv_heads)
    w.add_key_length(head_dim)
    w.add_value_length(head_dim)
    w.add_layer_norm_rms_eps(1e-6)


def add_tokens(w, tokens):
    """[(piece, type, score)] that begin with BYTES_AND_SPECIALS."""
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    w.add_token_list([t[0].encode() for t in tokens])
    w.add_token_scores([float(t[2]) for t in tokens])
    w.add_token_types([t[1] for t in tokens])
    w.add_pad_token_id(0)
    w.add_eos_token_id(1)
    w.add_bos_token_id(2)
    w.add_unk_token_id(3)
    w.add_add_space_prefix(False)


def add_tower(w, projector, width, mlp_width, text_width):
    """Of 8 x 8 pixels, one block and two heads."""
    w.add_bool("clip.has_vision_encoder", True)
    w.add_string("clip.projector_type", projector)
    w.add_bool("clip.use_gelu", True)
    for key, x in (("image_size", 8), ("patch_size", 4), ("embedding_length", width), ("block_count", 1), ("attention.head_count", 2),
                   ("feed_forward_length", mlp_width), ("projection_dim", text_width)):
        w.add_uint32("clip.vision." + key, x)
    w.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    w.add_array("clip.vision.image_mean", [0.5] * 3)
    w.add_array("clip.vision.image_std", [0.5] * 3)


def finish(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def write_safetensors(path, seed, tensors):
    """(name, array) pairs as f32."""
    header, data = {"__metadata__": {"gguf": version("gguf"), "numpy": np.__version__, "seed": str(seed)}}, b""
    for name, x in tensors:
        raw = x.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(x.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(struct.pack("<Q", len(head)) + head + data)
