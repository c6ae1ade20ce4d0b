"""A model of lm-evaluation-harness: all requests of a type in one pass over the weights.

``python -m sli.lm_eval run --model sli --model_args pretrained=DIR_OR_REPO,memory=8GiB --tasks ...`` works with every version of
the harness; those that read the entry points ``lm_eval.models`` know ``--model sli`` by themselves.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from lm_eval import utils
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import model_registry

import sli
from sli import _arguments
from sli._errors import usage_error

#: What the harness passes to every model, and what other models are asked for: nothing here depends on them.
_IGNORED = {"batch_size", "max_batch_size", "device", "parallelize", "logits_cache"}
_DEFAULT_LENGTH = 2048
_LENGTHS = ("n_positions", "max_position_embeddings", "n_ctx")
#: ``model_max_length`` of tokenizers that do not say one.
_NO_LENGTH = 10**29

_Request = tuple[Any, list[int], list[int]]
_Answer = tuple[float, bool]


class SLILM(TemplateLM):  # type: ignore[misc]
    """``pretrained`` is a model as for :func:`sli.run`, whose flags are further arguments (``memory``, ``compute``, ``threads``,
    ``stream``, ...). With ``out`` an evaluation that was killed goes on where it was. Answers are those of the backend ``hf``.
    """

    def __init__(
        self,
        pretrained: str,
        revision: str | None = None,
        max_length: int | None = None,
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
        tokenizer: str | None = None,
        backend: str = "default",
        out: str | None = None,
        progress: bool | None = None,
        enable_thinking: bool | None = None,
        chat_template_args: dict[str, Any] | None = None,
        **flags: Any,
    ) -> None:
        super().__init__()
        self.pretrained = pretrained
        self.revision = None if revision is None else str(revision)
        self.out = out
        self.progress = progress
        self.flags = {name: value for name, value in flags.items() if name not in _IGNORED}
        self.flags.setdefault("allow_long", True)
        # A wrong argument is said before the tasks are read.
        _arguments.of("run", self.flags)
        self.inspected = sli.inspect(pretrained, revision=self.revision)
        self.config = _config(pretrained, self.revision)
        self.tokenizer = _tokenizer(tokenizer or pretrained, self.revision if tokenizer is None else None, add_bos_token)
        self.add_bos_token = add_bos_token
        self.custom_prefix_token_id = prefix_token_id
        self.max_length = int(max_length) if max_length else _max_length(self.config, self.tokenizer)
        self.backend = _backend(backend, self.inspected)
        self.most_tokens = _most_tokens(self.inspected, self.config, self.max_length)
        self.chat_template_args = dict(chat_template_args or {})
        if enable_thinking is not None:
            self.chat_template_args["enable_thinking"] = enable_thinking

    @property
    def eot_token_id(self) -> int:
        """The end of a text."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What stands in front of a text that has nothing in front."""
        if self.custom_prefix_token_id is not None:
            return int(self.custom_prefix_token_id)
        if self.tokenizer.bos_token_id is not None:
            return int(self.tokenizer.bos_token_id)
        return self.eot_token_id

    @property
    def tokenizer_name(self) -> str:
        """The name under which the harness keeps requests."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The text of a conversation."""
        import jinja2

        def rendered(history: list[dict[str, str]]) -> str:
            return str(
                self.tokenizer.apply_chat_template(
                    history,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=not add_generation_prompt,
                    **self.chat_template_args,
                )
            )

        try:
            return rendered(chat_history)
        except jinja2.exceptions.TemplateError:
            logging.getLogger(__name__).warning("the chat template fails with a system message; it is left out")
            return rendered([message for message in chat_history if message["role"] != "system"])

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """The tokens of a text."""
        special = self.add_bos_token if add_special_tokens is None else add_special_tokens
        if add_special_tokens is None and string.startswith(self.tokenizer.decode(self.prefix_token_id)):
            special = False
        named = {} if special is None else {"add_special_tokens": special}
        return [int(token) for token in self.tokenizer.encode(string, **named)]

    def _loglikelihood_tokens(self, requests: list[_Request], **kwargs: Any) -> list[_Answer]:
        answers = self._score([(context, continuation) for _, context, continuation in requests], "loglikelihood")
        for (texts, *_), answer in zip(requests, answers):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        return answers

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of whole texts, however long."""
        windows: list[tuple[list[int], list[int]]] = []
        ends = []
        for request in requests:
            (string,) = request.args
            rolling = utils.get_rolling_token_windows(
                token_list=self.tok_encode(string),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            windows += [utils.make_disjoint_window(window) for window in rolling]
            ends.append(len(windows))
        answers = self._score(windows, "loglikelihood_rolling")
        totals = []
        for request, begin, end in zip(requests, [0, *ends], ends):
            totals.append(float(sum(logprob for logprob, _ in answers[begin:end])))
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, totals[-1])
        return totals

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Refused: nothing is generated."""
        raise usage_error(
            f"{len(requests)} requests ask for generated text, and SLI scores only",
            "choose tasks whose output_type is loglikelihood, loglikelihood_rolling or multiple_choice",
        )

    def get_model_info(self) -> dict[str, Any]:
        """What the results say of the model."""
        dtypes = self.inspected["dtypes"]
        return {
            "model_num_parameters": self.inspected["parameters"],
            "model_dtype": max(dtypes, key=dtypes.get) if dtypes else "",
            "model_revision": self.revision or "",
            "sli_version": sli.__version__,
        }

    def _score(self, pairs: Sequence[tuple[list[int], list[int]]], kind: str) -> list[_Answer]:
        """The log-probability of each continuation behind its context, and whether it is what the model would say."""
        records: dict[str, dict[str, Any]] = {}
        keys = []
        for context, continuation in pairs:
            record = self._record(context, continuation)
            key = json.dumps(record, separators=(",", ":"))
            records.setdefault(key, record)
            keys.append(key)
        if not records:
            return []
        results = sli.run(
            self.pretrained,
            list(records.values()),
            out=self._folder(kind, records),
            take=["scores", "topk:1"],
            revision=self.revision,
            progress=self.progress,
            **self.flags,
        )
        answers = {}
        columns = [results.scores["token_ids"], results.scores["logprobs"], results.topk["top_ids"]]
        for (key, record), tokens, logprobs, top in zip(records.items(), *columns):
            answers[key] = _answer(record, tokens, logprobs, [ids[0] for ids in top], 0 if self.backend == "seq2seq" else 1)
        return [answers[key] for key in keys]

    def _record(self, context: list[int], continuation: list[int]) -> dict[str, Any]:
        if not context or not continuation:
            raise usage_error("a request has no context or no continuation", "look at the texts of the task")
        if len(continuation) > self.max_length:
            raise usage_error(
                f"a continuation has {len(continuation)} tokens; the model has room for {self.max_length}",
                "give a larger max_length, or another task",
            )
        if self.backend == "seq2seq":
            return {"input_ids": context[-self.max_length :], "labels": continuation}
        tokens = (context + continuation)[-(self.max_length + 1) :]
        if self.most_tokens is not None and len(tokens) > self.most_tokens:
            # The last token is only predicted, but a record has a row for it, too.
            raise usage_error(
                f"a request fills all {self.max_length} positions, and the token behind them is asked for: this model has no row for "
                "it, or rows that depend on how many there are",
                f"give max_length={min(self.max_length, self.most_tokens - 1)}: `hf` sees one token of context more",
            )
        return {"input_ids": tokens, "labels": [-100] * (len(tokens) - len(continuation)) + continuation}

    def _folder(self, kind: str, records: dict[str, Any]) -> str | None:
        """Each set of requests has its own folder, found again by what they are."""
        if self.out is None:
            return None
        content = hashlib.sha256("\n".join(records).encode()).hexdigest()[:16]
        return os.path.join(os.fsdecode(self.out), f"{kind}-{content}")


def _answer(record: dict[str, Any], tokens: list[int], logprobs: list[float | None], top: list[int], ahead: int) -> _Answer:
    """Of the tokens that are asked for; ``ahead``: how many rows before a token it is predicted."""
    counted = [at for at, label in enumerate(record["labels"]) if label != -100]
    total = sum(_number(logprobs[at]) for at in counted)
    return total, all(top[at - ahead] == tokens[at] for at in counted)


def _number(logprob: float | None) -> float:
    if logprob is None:
        raise RuntimeError("a token that was asked for has no score")
    return logprob


def _tokenizer(name: str, revision: str | None, add_bos_token: bool | None) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise usage_error("the tokenizer is that of transformers", "pip install transformers") from error
    named: dict[str, Any] = {} if add_bos_token is None else {"add_bos_token": add_bos_token}
    folder, file = os.path.split(name)
    if file.endswith(".gguf"):
        return transformers.AutoTokenizer.from_pretrained(folder or ".", gguf_file=file, **named)
    return transformers.AutoTokenizer.from_pretrained(name, revision=revision or "main", use_fast=True, **named)


def _config(name: str, revision: str | None) -> Any:
    """The configuration, for its lengths; of a type that transformers does not know what the file says."""
    import transformers

    folder, file = os.path.split(name)
    try:
        if file.endswith(".gguf"):
            return transformers.AutoConfig.from_pretrained(folder or ".", gguf_file=file)
        return transformers.AutoConfig.from_pretrained(name, revision=revision or "main")
    except ValueError:
        config, _ = transformers.PretrainedConfig.get_config_dict(name, revision=revision or "main")
        return SimpleNamespace(**config)


def _max_length(config: Any, tokenizer: Any) -> int:
    text = getattr(config, "text_config", None) or config
    for name in _LENGTHS:
        length = getattr(text, name, None)
        if length is not None:
            return int(length)
    length = getattr(tokenizer, "model_max_length", None)
    return int(length) if length and length < _NO_LENGTH else _DEFAULT_LENGTH


def _most_tokens(inspected: dict[str, Any], config: Any, max_length: int) -> int | None:
    """The longest record whose last token does not matter to the others, where there is a limit."""
    row = next(row for row in sli.architectures() if row["model_type"] == inspected["model_type"])
    if "no record is longer than the table of positions" in row["limits"]:
        limit = inspected["length_limit"]
        return None if limit is None else int(limit)
    text = getattr(config, "text_config", None) or config
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    kinds = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    scaled = {kind.get("rope_type") or kind.get("type") for kind in kinds}
    return max_length if scaled & {"dynamic", "longrope"} else None


def _backend(asked: str, inspected: dict[str, Any]) -> str:
    if asked not in ("default", "causal", "seq2seq"):
        raise usage_error(f"backend is {asked!r}", "it is `causal` or `seq2seq`")
    stacks = {stack["name"] for stack in inspected["stacks"]}
    there = "seq2seq" if {"encoder", "decoder"} <= stacks else "causal"
    if asked not in ("default", there):
        raise usage_error(f"backend is {asked!r}, but the model is {there}", "leave backend out")
    return there


def main() -> None:
    """The harness's own command line, with this model in its registry."""
    from lm_eval.__main__ import cli_evaluate

    if "sli" not in model_registry:
        model_registry.register("sli", target="sli.lm_eval:SLILM")
    cli_evaluate()


if __name__ == "__main__":
    main()
