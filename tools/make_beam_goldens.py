#!/usr/bin/env python3
"""Makes tests/golden/beam/cases.txt: what Transformers' beam search returns for a language model that is a hash function.

The model has no weights: the logits after a sequence are a hash of its ids (see logits_after; tests/test_beam.c computes
the same bits), so the test drives our bookkeeping through the reference's every decision without a neural network.

usage: make_beam_goldens.py OUT.txt        (made with torch 2.x and transformers 5.24; exact versions are in the file)
"""
import itertools
import sys
import types

import numpy as np
import torch
import transformers
from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel

PROMPT = [3, 5, 3]
EOS = 1


def logits_after(ids, seed, vocab):
    h = np.uint32(seed)
    with np.errstate(over="ignore"):
        for token in ids:
            h = (h ^ np.uint32(token)) * np.uint32(16777619)
        x = h ^ (np.arange(vocab, dtype=np.uint32) * np.uint32(0x9E3779B9))
        x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        x = x ^ (x >> np.uint32(16))
    logits = (x >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24) * np.float32(6)
    logits[EOS] += np.float32(0.25) * np.float32(len(ids) - len(PROMPT))
    return logits


class HashConfig(PretrainedConfig):
    model_type = "hash"


class HashModel(PreTrainedModel, GenerationMixin):
    config_class = HashConfig
    main_input_name = "input_ids"

    def __init__(self, config):
        super().__init__(config)
        self.one = torch.nn.Parameter(torch.zeros(1))
        self.post_init()

    def prepare_inputs_for_generation(self, input_ids, **kwargs):
        return {"input_ids": input_ids}

    def forward(self, input_ids, **kwargs):
        rows = [logits_after(row.tolist(), self.config.seed, self.config.vocab_size) for row in input_ids]
        return transformers.modeling_outputs.CausalLMOutput(logits=torch.from_numpy(np.stack(rows))[:, None, :])


def main():
    out = open(sys.argv[1], "w")
    print(f"# transformers {transformers.__version__}, torch {torch.__version__}, numpy {np.__version__}", file=out)
    print("# case SEED VOCAB BEAMS LENGTH_PENALTY EARLY_STOPPING MAX_TOKENS REPETITION_PENALTY, then per sequence: SCORE IDS...", file=out)
    seed = 0
    for vocab, beams, penalty, early, limit, repetition in itertools.product(
        (11, 300), (2, 3, 5), (0.0, 1.0, 2.5, -1.0), (False, True, "never"), (1, 4, 12), (1.0, 1.3)
    ):
        seed += 1
        if repetition != 1.0 and penalty not in (1.0,):
            continue
        config = HashConfig(vocab_size=vocab, seed=seed, is_encoder_decoder=False, num_hidden_layers=1)
        got = HashModel(config).generate(
            torch.tensor([PROMPT]),
            generation_config=GenerationConfig(
                num_beams=beams, num_return_sequences=beams, length_penalty=penalty, early_stopping=early, max_new_tokens=limit,
                repetition_penalty=repetition, do_sample=False, use_cache=False, eos_token_id=EOS, pad_token_id=0, bos_token_id=2,
                return_dict_in_generate=True, output_scores=True,
            ),
        )
        name = str(early).lower()
        print("case", seed, vocab, beams, penalty, name, limit, repetition, file=out)
        for row, score in zip(got.sequences.tolist(), got.sequences_scores.tolist()):
            ids = row[len(PROMPT):]
            if EOS in ids:
                ids = ids[: ids.index(EOS) + 1]
            print(f"{score:.7g}", *ids, file=out)
    out.close()


main()
