"""Keyword arguments that are flags of the commands. Written by a test: ``UPDATE_DOCS=1 cargo test -p sli --test python_flags``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, Union


class RunFlags(TypedDict, total=False):
    """Flags of ``sli run``."""

    allow_long: bool
    """Run records that are longer than the model was trained for, or than its files cut texts."""
    allow_unread: Union[str, Sequence[str], Mapping[str, Any]]
    """Accept a configuration key that SLI does not know; repeatable."""
    allow_unused: Union[str, Sequence[str], Mapping[str, Any]]
    """Leave out tensors of this name, of which SLI does not know what they are for; `*` stands for any characters;
    repeatable."""
    chat_arg: Union[str, Sequence[str], Mapping[str, Any]]
    """A variable of the chat template; repeatable. VALUE is JSON, or a text: enable_thinking=false."""
    chat_template: Union[str, int, float]
    """The chat template for all `messages`: one of the model's by its name, or that of a file [default: the model's
    own; with `tools` in a record, its template `tool_use` if it has one]."""
    checkpoint_interval: Union[str, int, float]
    """Work between two checkpoints of a run, in seconds; an interruption costs at most this."""
    column: Union[str, Sequence[str], Mapping[str, Any]]
    """The column that stands for a key of records; repeatable: --column text=content."""
    fresh: bool
    """Discard what an earlier, different or damaged run left in the folder and start over."""
    hidden_dtype: Literal["f32", "bf16", "f16"]
    """Element type of stored hidden states."""
    no_share: bool
    """Do not share the work on beginnings and pictures that records have in common."""
    prompt: Union[str, int, float]
    """Prompt that `--take embedding` (or `sparse`) puts in front of every text, by its name in
    config_sentence_transformers.json; '' is none [default: the one that the file names, if any]."""
    report: bool
    """Write report.html beside the results, a page for a browser (as `sli report` does)."""
    score: Literal["all", "assistant"]
    """What of a conversation the columns completion_* of the scores are about."""
    shard: Union[str, tuple[int, int]]
    """Run over one of N parts of the dataset, from 1/N to N/N: on as many machines, or one after the other; `sli
    merge` makes of their folders what one run over all of it gives."""
    skip_empty: bool
    """Leave out records whose text, ids or messages are null or empty, and count them; the others keep their numbers."""
    spill: Literal["auto", "always", "never"]
    """Whether activations may go to disk between layers."""
    stream: bool
    """Keep nothing of a model that is elsewhere: fetch what is needed each time it is needed."""
    tokenizer_arg: Union[str, Sequence[str], Mapping[str, Any]]
    """A setting of the tokenizer that wins over tokenizer_config.json, as from_pretrained takes them; repeatable.
    VALUE is JSON, or a text: tgt_lang=deu_Latn."""
    tokenizer_file: bool
    """Take tokenizer.json as it is; by default the tokenizer is the one that transformers builds, whose classes put
    tokenizer_config.json over it."""
    use: Literal["text", "input_ids", "messages", "prompt"]
    """What of a record becomes its tokens; every record must have it [default: the first of input_ids, prompt,
    messages and text that it has]."""


class BatchFlags(TypedDict, total=False):
    """Flags of ``sli batch``."""

    allow_long: bool
    """Run records that are longer than the model was trained for, or than its files cut texts."""
    allow_unread: Union[str, Sequence[str], Mapping[str, Any]]
    """Accept a configuration key that SLI does not know; repeatable."""
    allow_unused: Union[str, Sequence[str], Mapping[str, Any]]
    """Leave out tensors of this name, of which SLI does not know what they are for; `*` stands for any characters;
    repeatable."""
    chat_arg: Union[str, Sequence[str], Mapping[str, Any]]
    """A variable of the chat template; repeatable. VALUE is JSON, or a text: enable_thinking=false."""
    chat_template: Union[str, int, float]
    """The chat template for all `messages`: one of the model's by its name, or that of a file [default: the model's
    own; with `tools` in a record, its template `tool_use` if it has one]."""
    checkpoint_interval: Union[str, int, float]
    """Work between two checkpoints of a run, in seconds; an interruption costs at most this."""
    fresh: bool
    """Replace the answers that are there, and discard what an earlier, different batch left."""
    no_share: bool
    """Do not share the work on beginnings and pictures that records have in common."""
    prompt: Union[str, int, float]
    """Prompt that `--take embedding` (or `sparse`) puts in front of every text, by its name in
    config_sentence_transformers.json; '' is none [default: the one that the file names, if any]."""
    spill: Literal["auto", "always", "never"]
    """Whether activations may go to disk between layers."""
    stream: bool
    """Keep nothing of a model that is elsewhere: fetch what is needed each time it is needed."""
    tokenizer_arg: Union[str, Sequence[str], Mapping[str, Any]]
    """A setting of the tokenizer that wins over tokenizer_config.json, as from_pretrained takes them; repeatable.
    VALUE is JSON, or a text: tgt_lang=deu_Latn."""
    tokenizer_file: bool
    """Take tokenizer.json as it is; by default the tokenizer is the one that transformers builds, whose classes put
    tokenizer_config.json over it."""


class DiffFlags(TypedDict, total=False):
    """Flags of ``sli diff``."""

    allow_long: bool
    """Run records that are longer than the model was trained for, or than its files cut texts."""
    allow_unread: Union[str, Sequence[str], Mapping[str, Any]]
    """Accept a configuration key that SLI does not know; repeatable."""
    allow_unused: Union[str, Sequence[str], Mapping[str, Any]]
    """Leave out tensors of this name, of which SLI does not know what they are for; `*` stands for any characters;
    repeatable."""
    chat_arg: Union[str, Sequence[str], Mapping[str, Any]]
    """A variable of the chat template; repeatable. VALUE is JSON, or a text: enable_thinking=false."""
    chat_template: Union[str, int, float]
    """The chat template for all `messages`: one of the model's by its name, or that of a file [default: the model's
    own; with `tools` in a record, its template `tool_use` if it has one]."""
    checkpoint_interval: Union[str, int, float]
    """Work between two checkpoints of a run, in seconds; an interruption costs at most this."""
    column: Union[str, Sequence[str], Mapping[str, Any]]
    """The column that stands for a key of records, as in `sli run`; repeatable."""
    fresh: bool
    """Discard what an earlier, different or damaged comparison left in the folder and start over."""
    no_share: bool
    """Do not share the work on beginnings and pictures that records have in common."""
    prompt: Union[str, int, float]
    """Prompt that `--take embedding` (or `sparse`) puts in front of every text, by its name in
    config_sentence_transformers.json; '' is none [default: the one that the file names, if any]."""
    reference_tokens: bool
    """Run both over the tokens that the tokenizer of A gives, and do not look at that of B."""
    report: bool
    """Write report.html beside the results, a page for a browser (as `sli report` does)."""
    skip_empty: bool
    """Leave out records whose text, ids or messages are null or empty, and count them."""
    spill: Literal["auto", "always", "never"]
    """Whether activations may go to disk between layers."""
    stream: bool
    """Keep nothing of a model that is elsewhere: fetch what is needed each time it is needed."""
    tokenizer_arg: Union[str, Sequence[str], Mapping[str, Any]]
    """A setting of the tokenizer that wins over tokenizer_config.json, as from_pretrained takes them; repeatable.
    VALUE is JSON, or a text: tgt_lang=deu_Latn."""
    tokenizer_file: bool
    """Take tokenizer.json as it is; by default the tokenizer is the one that transformers builds, whose classes put
    tokenizer_config.json over it."""
    use: Literal["text", "input_ids", "messages", "prompt"]
    """What of a record becomes its tokens, as in `sli run`."""


class InspectFlags(TypedDict, total=False):
    """Flags of ``sli inspect``."""

    allow_unread: Union[str, Sequence[str], Mapping[str, Any]]
    """Accept a configuration key that SLI does not know; repeatable."""
    allow_unused: Union[str, Sequence[str], Mapping[str, Any]]
    """Leave out tensors of this name, of which SLI does not know what they are for; `*` stands for any characters;
    repeatable."""


class VerifyFlags(TypedDict, total=False):
    """Flags of ``sli verify``."""

    allow_long: bool
    """Run records that are longer than the model was trained for, or than its files cut texts."""
    allow_unread: Union[str, Sequence[str], Mapping[str, Any]]
    """Accept a configuration key that SLI does not know; repeatable."""
    allow_unused: Union[str, Sequence[str], Mapping[str, Any]]
    """Leave out tensors of this name, of which SLI does not know what they are for; `*` stands for any characters;
    repeatable."""
    chat_arg: Union[str, Sequence[str], Mapping[str, Any]]
    """A variable of the chat template; repeatable. VALUE is JSON, or a text: enable_thinking=false."""
    chat_template: Union[str, int, float]
    """The chat template for all `messages`: one of the model's by its name, or that of a file [default: the model's
    own; with `tools` in a record, its template `tool_use` if it has one]."""
    checkpoint_interval: Union[str, int, float]
    """Work between two checkpoints of a run, in seconds; an interruption costs at most this."""
    fresh: bool
    """Discard what an earlier, different verification left beside the receipt."""
    no_share: bool
    """Do not share the work on beginnings and pictures that records have in common."""
    other_weights: bool
    """The weights may be other files than those of the reference: of another format, or quantised."""
    prompt: Union[str, int, float]
    """Prompt that `--take embedding` (or `sparse`) puts in front of every text, by its name in
    config_sentence_transformers.json; '' is none [default: the one that the file names, if any]."""
    spill: Literal["auto", "always", "never"]
    """Whether activations may go to disk between layers."""
    stream: bool
    """Keep nothing of a model that is elsewhere: fetch what is needed each time it is needed."""
    tokenizer_arg: Union[str, Sequence[str], Mapping[str, Any]]
    """A setting of the tokenizer that wins over tokenizer_config.json, as from_pretrained takes them; repeatable.
    VALUE is JSON, or a text: tgt_lang=deu_Latn."""
    tokenizer_file: bool
    """Take tokenizer.json as it is; by default the tokenizer is the one that transformers builds, whose classes put
    tokenizer_config.json over it."""
